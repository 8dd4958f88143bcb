"""PatchTST: a Transformer over patches of a series, each channel for itself."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import Model, Param, stack
from jann.depth import apply_blocks, depth_keys, tap
from jann.drawing import fold
from jann.layers import (
    attention,
    attention_spec,
    batch_norm,
    batch_norm_spec,
    dropout,
    exact_gelu,
    instance_norm,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    small_normal,
)


class PatchTST(Model):
    """Forecasts `horizon` steps of each channel from its last `lookback` steps.

    A window is normalised by its own mean and deviation (RevIN), cut into patches that may overlap, and each patch is
    embedded as one token of a Transformer encoder. All channels share the weights and none sees another.

    Nie, Nguyen, Sinthong and Kalagnanam 2023, "A time series is worth 64 words", ICLR, arXiv:2211.14730. The paper's
    for large data has embed=128, heads=16, hidden=256, its smaller one embed=16, heads=4, hidden=128, dropout=0.3.

    patch, stride:  steps of a patch, and from one patch to the next; the first steps that fill no patch are left out
                    (as in Hugging Face's; the paper fills up the end, which makes one patch more)
    norm:           "batch" as in the paper, or "layer"
    pre_norm:       normalise before attention and dense layers, or (as in the paper) after the shortcut is added
    pooling:        "flatten": the forecast is linear in all patches; "mean": in their mean
    dropout:        rate on tokens, attention weights, both branches of a block and before the head
    """

    lookback: int
    horizon: int
    patch: int = 16
    stride: int = 8
    embed: int = 16
    heads: int = 4
    hidden: int = 128
    layers: int = 3
    norm: str = "batch"
    pre_norm: bool = False
    pooling: str = "flatten"
    dropout: float = 0.0
    activation: Callable = exact_gelu

    def __post_init__(self):
        choices = {"norm": ("batch", "layer"), "pooling": ("flatten", "mean")}
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise ValueError(f"PatchTST.{field} must be one of {', '.join(known)}, got {getattr(self, field)!r}")
        if self.patch > self.lookback:
            raise ValueError(f"PatchTST.patch={self.patch} is longer than lookback={self.lookback}")

    @property
    def patches(self) -> int:
        return (self.lookback - self.patch) // self.stride + 1

    def spec(self):
        norm_spec = batch_norm_spec if self.norm == "batch" else layer_norm_spec
        block = {
            "attention": attention_spec(self.embed, self.heads),
            "norm1": norm_spec(self.embed),
            "dense1": linear_spec(self.embed, self.hidden),
            "dense2": linear_spec(self.hidden, self.embed),
            "norm2": norm_spec(self.embed),
        }
        return {
            "embed": linear_spec(self.patch, self.embed),
            "positions": Param({"patches": self.patches, "embed": self.embed}, small_normal),
            "blocks": stack(block, layers=self.layers),
            "head": linear_spec(self.embed * (self.patches if self.pooling == "flatten" else 1), self.horizon),
        }

    def apply(self, params, x, state=None, key=None):
        """x[..., lookback, channels] -> ([..., horizon, channels], batch statistics)"""
        x, mean, deviation = instance_norm(x)
        x = linear(params["embed"], self._patched(jnp.swapaxes(x, -1, -2)))
        x = x + jax.lax.broadcast_to_rank(params["positions"].astype(x.dtype), x.ndim)
        x = tap("tokens", dropout(x, self.dropout, fold(key, "embed")))
        keys = depth_keys(fold(key, "blocks"), self.layers)
        x, statistics = apply_blocks(self._block, x, params["blocks"], keys)
        x = x.mean(-2) if self.pooling == "mean" else jax.lax.collapse(x, -2)
        x = linear(params["head"], dropout(x, self.dropout, fold(key, "head")))
        return jnp.swapaxes(x, -1, -2) * deviation + mean, {"blocks": statistics}

    def _patched(self, x):
        """x[..., channels, lookback] -> [..., channels, patches, patch]"""
        if x.shape[-1] != self.lookback:
            raise ValueError(f"{self!r} looks back on {self.lookback} steps, got x[..., {x.shape[-1]}, channels]")
        first = self.lookback - self.patch - self.stride * (self.patches - 1)
        return x[..., first + self.stride * np.arange(self.patches)[:, None] + np.arange(self.patch)]

    def _block(self, x, p, key):
        """x[..., channels, patches, embed] -> the same after attention and dense layers, and the batch statistics"""
        statistics = {}

        def norm(name, x):
            if self.norm == "layer":
                return layer_norm(p[name], x)
            x, statistics[name] = batch_norm(p[name], x)
            return x

        def attend(x):
            return attention(p["attention"], x, rate=self.dropout, key=fold(key, "weights"))

        def dense(x):
            hidden = self.activation(linear(p["dense1"], x))
            return linear(p["dense2"], dropout(hidden, self.dropout, fold(key, "hidden")))

        for name, branch in (("norm1", attend), ("norm2", dense)):
            y = dropout(branch(norm(name, x) if self.pre_norm else x), self.dropout, fold(key, name))
            x = x + y if self.pre_norm else norm(name, x + y)
        return tap("block", x), statistics
