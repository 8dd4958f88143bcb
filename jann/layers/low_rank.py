"""Kernels with a trained correction of low rank (Hu et al. 2021, LoRA, arXiv:2106.09685)."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import numpy as np

from jann.core import Param
from jann.layers.dtypes import wide_dtype
from jann.trees import Node


@partial(jax.tree_util.register_dataclass, data_fields=["base", "down", "up", "scale", "key", "rate"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class LowRank(Node):
    """A kernel W + scale · down · up, in the place of the array that it stands for; `linear` multiplies it.

    base:   W[*lead, *inputs, *outputs], as it was; frozen
    down:   [*lead, *inputs, rank]
    up:     [*lead, rank, *outputs]
    scale:  [*lead], how much the correction counts; not trained. `lead` are the axes of stacked blocks.
    key, rate:  [*lead], of dropout on what the correction sees; only while it trains with that (`jann.adapt.frozen`)

    It has the shape of the array, and NumPy takes it for the array of the sum (so `save` and `save_pretrained` write
    that); other layers than `linear` refuse it.
    """

    base: Any
    down: Any
    up: Any
    scale: Any
    key: Any = None
    rate: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        return self.base.dtype

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(part.size for part in self.parts().values())

    @property
    def rank(self) -> int:
        return self.down.shape[-1]

    def parts(self) -> dict[str, Any]:
        return {name: part for name, part in super().parts().items() if name not in ("key", "rate")}

    def declared(self, param: Param) -> LowRank:
        """The kernel's Param -> a Param for each part."""
        lead, inputs, outputs = kernel_axes(param)
        rank = {"rank": self.rank}
        down = Param({**lead, **inputs, **rank}, into=tuple(inputs), stacked=param.stacked)
        up = Param({**lead, **rank, **outputs}, into=("rank",), stacked=param.stacked)
        return LowRank(param, down, up, Param(lead, stacked=param.stacked))

    def merged(self) -> jax.Array:
        """The one array that gives the same products, in the base's dtype."""
        lead = self.scale.ndim
        blocks, rank = math.prod(self.shape[:lead]), self.rank
        wide = wide_dtype(self)
        down = self.down.astype(wide).reshape(blocks, -1, rank)
        up = self.up.astype(wide).reshape(blocks, rank, -1)
        change = self.scale.astype(wide).reshape(blocks, 1, 1) * (down @ up)
        return (self.base.astype(wide) + change.reshape(self.shape)).astype(self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.merged(), dtype)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a low-rank kernel has no {name!r}: only `linear` multiplies one; jann.adapt.merge(params) makes arrays"
        )


def kernel_axes(param: Param) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """A kernel's axes [*lead, *inputs, *outputs], taken apart; `lead` are those of stacked blocks."""
    axes, lead, inputs = list(param.axes.items()), len(param.stacked), len(param.into)
    return dict(axes[:lead]), dict(axes[lead : lead + inputs]), dict(axes[lead + inputs :])
