"""U-Net of segmentation: convolutions down to a coarse image and up again, with what was seen on the way beside it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.depth import tap
from jann.drawing import fold
from jann.layers import conv, conv_spec, conv_transpose, dropout, group_norm, group_norm_spec, max_pool


class SegmentationUNet(Model):
    """Logits of a class for each pixel of an image.

    Ronneberger, Fischer and Brox 2015, "U-Net: convolutional networks for biomedical image segmentation", MICCAI,
    arXiv:1505.04597; but padded, so that the answer is as large as the image, and with group norms. The paper's own has
    widths (64, 128, 256, 512, 1024) and a dropout of 0.5.

    inputs:   channels of the image
    outputs:  classes
    widths:   channels of each level; every level but the first has half the height and width of the one before
    groups:   of the group norms, dividing all widths; 0 for none
    dropout:  rate at the coarsest level
    """

    inputs: int = 1
    outputs: int = 2
    widths: tuple[int, ...] = (16, 32, 64, 128)
    groups: int = 8
    dropout: float = 0.0
    activation: Callable = jax.nn.relu

    def __post_init__(self):
        if self.groups and any(width % self.groups for width in self.widths):
            raise ValueError(f"SegmentationUNet.groups={self.groups} must divide the widths {list(self.widths)}")

    def spec(self):
        def layer(inputs, outputs):
            spec = {"conv": conv_spec(inputs, outputs, bias=not self.groups)}
            return {**spec, "norm": group_norm_spec(outputs)} if self.groups else spec

        down, up, channels = [], [], self.inputs
        for width in self.widths:
            down.append([layer(channels, width), layer(width, width)])
            channels = width
        for width in self.widths[-2::-1]:
            block = [layer(2 * width, width), layer(width, width)]
            up.append({"enlarge": conv_spec(channels, width, (2, 2)), "block": block})
            channels = width
        return {"down": down, "up": up, "head": conv_spec(channels, self.outputs, (1, 1))}

    def apply(self, params, x, state=None, key=None):
        """x[..., height, width, inputs] -> logits[..., height, width, outputs]; of any size that halves so often"""
        coarsest = 2 ** (len(self.widths) - 1)
        if x.shape[-3] % coarsest or x.shape[-2] % coarsest:
            raise ValueError(f"{self!r} takes images of multiples of {coarsest} pixels, got {list(x.shape)}")
        seen = []
        for i, block in enumerate(params["down"]):
            x = max_pool(x, (2, 2)) if i else x
            x = tap(f"down_{i}", self._block(block, x))
            seen.append(x)
        x = dropout(seen.pop(), self.dropout, fold(key, "dropout"))
        for i, p in enumerate(params["up"]):
            x = conv_transpose(p["enlarge"], x, 2)
            x = tap(f"up_{i}", self._block(p["block"], jnp.concatenate([seen.pop(), x], -1)))
        return conv(params["head"], x), state

    def _block(self, layers, x):
        for p in layers:
            x = conv(p["conv"], x)
            x = self.activation(group_norm(p["norm"], x, self.groups) if self.groups else x)
        return x
