"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545): a convolutional network with the habits of a Transformer."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jann.core import Model, Param, stack
from jann.depth import apply_blocks, depth_keys, scope, tap
from jann.drawing import fold
from jann.layers import (
    conv,
    conv_spec,
    dropout,
    exact_gelu,
    global_average_pool,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    small_normal,
)
from jann.layers.dtypes import along
from jann.layers.initializers import constant

WINDOW = 7  # of the convolution in a block
EPSILON = 1e-6  # of every norm but the last


class ConvNeXt(Model):
    """Stages of blocks, each a wide convolution of every channel by itself and an MLP of each place by itself.

    Images of any height and width are taken, from `smallest` on; rows and columns that fill no patch are not seen.

    inputs:       channels of the image
    outputs:      classes; 0 gives the last stage's features [..., height', width', widths[-1]], see `pooled`
    depths:       blocks in each stage; every stage but the first halves height and width
    widths:       channels in each stage
    patch:        side of the squares that the stem takes the image in, in pixels
    layer_scale:  what the scale of each channel that a block adds starts at (Touvron et al. 2021, arXiv:2103.17239);
                  0: no scale
    epsilon:      of the last norm
    drop_path:    how often the last block is left out of an example's way in training, the first never, those between
                  in proportion (stochastic depth, Huang et al. 2016, arXiv:1603.09382)
    """

    inputs: int = 3
    outputs: int = 1000
    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    patch: int = 4
    activation: Callable = exact_gelu
    layer_scale: float = 1e-6
    epsilon: float = 1e-6
    drop_path: float = 0.0

    def __post_init__(self):
        if len(self.depths) != len(self.widths):
            raise ValueError(f"ConvNeXt needs a width for each stage, got depths={self.depths}, widths={self.widths}")
        if min(self.depths, default=0) < 1:
            raise ValueError(f"ConvNeXt.depths={self.depths}: a stage has at least one block")

    def spec(self):
        stages, before = [], None
        for depth, width in zip(self.depths, self.widths, strict=True):
            stage = {"blocks": stack(self._block_spec(width), layers=depth)}
            if before is not None:
                stage["norm"] = layer_norm_spec(before)
                stage["conv"] = conv_spec(before, width, (2, 2), init=small_normal)
            stages.append(stage)
            before = width
        first = conv_spec(self.inputs, self.widths[0], (self.patch, self.patch), init=small_normal)
        spec = {
            "stem": {"conv": first, "norm": layer_norm_spec(self.widths[0])},
            "stages": stages,
            "norm": layer_norm_spec(before),
        }
        if self.outputs:
            spec["head"] = linear_spec(before, self.outputs, init=small_normal)
        return spec

    def _block_spec(self, width: int):
        block = {
            "conv": conv_spec(width, width, (WINDOW, WINDOW), groups=width, init=small_normal),
            "norm": layer_norm_spec(width),
            "mlp_in": linear_spec(width, 4 * width, init=small_normal),
            "mlp_out": linear_spec(4 * width, width, init=small_normal),
        }
        return block | ({"scale": Param({"channels": width}, constant(self.layer_scale))} if self.layer_scale else {})

    def apply(self, params, images, state=None, key=None):
        """images[..., height, width, inputs] -> logits[..., outputs]"""
        x = self.features(params, images, key)
        return linear(params["head"], self.pooled(params, x)) if self.outputs else x, state

    @property
    def smallest(self) -> int:
        """Height and width, in pixels, of which the last stage sees one place."""
        return self.patch * 2 ** (len(self.depths) - 1)

    def features(self, params, images, key=None):
        """images[..., height, width, inputs] -> [..., height / smallest, width / smallest, widths[-1]]"""
        if images.ndim < 3 or images.shape[-1] != self.inputs or min(images.shape[-3:-1]) < self.smallest:
            raise ValueError(
                f"images[..., height, width, {self.inputs}] of at least {self.smallest} x {self.smallest} wanted, got "
                f"{list(images.shape)}: enlarge them (jax.image.resize), or build the model with a smaller patch"
            )
        x = conv(params["stem"]["conv"], images, self.patch, padding="valid")
        x = tap("embedded", layer_norm(params["stem"]["norm"], x, EPSILON))
        rates = np.linspace(0, self.drop_path, sum(self.depths), dtype=np.float32)
        rates = np.split(rates, np.cumsum(self.depths)[:-1])
        key = key if self.drop_path else None
        for i, (p, rate) in enumerate(zip(params["stages"], rates, strict=True)):
            if i:
                x = conv(p["conv"], layer_norm(p["norm"], x, EPSILON), 2, padding="valid")
            with scope(f"stage_{i}"):
                keys = depth_keys(fold(key, f"stage_{i}"), len(rate))
                x = apply_blocks(self.block, x, p["blocks"], keys, rate)[0]
            x = tap(f"stage_{i}", x)
        return x

    def block(self, x, p, key, rate):
        """x[..., height, width, channels] -> x + MLP of the norm of the convolution, which is left out at that rate"""
        y = layer_norm(p["norm"], conv(p["conv"], x, groups=x.shape[-1]), EPSILON)
        y = self.activation(linear(p["mlp_in"], y))
        y = linear(p["mlp_out"], tap("hidden", y))
        y = y * along(p["scale"], y) if "scale" in p else y
        each = jnp.ones((*y.shape[:-3], 1, 1, 1), y.dtype)  # one number for an example
        y = y if key is None else y * dropout(each, rate, key)
        return tap("block", x + y), None

    def pooled(self, params, x):
        """features[..., height, width, channels] -> the norm of their mean, [..., channels]"""
        return tap("pooled", layer_norm(params["norm"], global_average_pool(x), self.epsilon))
