"""Objects as points: a map of where the middles of objects are, and beside it how large they are."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jann.core import Model, Param
from jann.depth import tap
from jann.layers import conv, conv_spec, group_norm, group_norm_spec
from jann.layers.initializers import constant, small_normal
from jann.models.segmentation_unet import SegmentationUNet

STRIDE = 4  # pixels of a place of the map


class CenterNet(Model):
    """For each fourth pixel, down and across: whether the middle of an object is there, of which class and what size.

    Zhou, Wang and Krähenbühl 2019, "Objects as points", arXiv:1904.07850; with a small U-Net as its body. Targets, loss
    and boxes of its answers are in `jann.boxes`.

    inputs:   channels of the image
    classes:  of objects
    widths:   channels of each level of the body, the first at a fourth of the image's size
    groups:   of the group norms; divides all widths
    """

    inputs: int = 3
    classes: int = 1
    widths: tuple[int, ...] = (32, 64, 128)
    groups: int = 8
    activation: Callable = jax.nn.relu

    @property
    def body(self) -> SegmentationUNet:
        return SegmentationUNet(self.widths[0], self.widths[0], self.widths, self.groups, activation=self.activation)

    def spec(self):
        width = self.widths[0]
        stem = [
            {"conv": conv_spec(inputs, width, bias=False), "norm": group_norm_spec(width)}
            for inputs in (self.inputs, width)
        ]
        heads = {"heatmap": self.classes, "offset": 2, "size": 2}
        spec = {"stem": stem, "body": self.body.spec()}
        spec |= {name: conv_spec(width, outputs, (1, 1), init=small_normal) for name, outputs in heads.items()}
        # At first each place has a probability of 0.1 of being a middle, so that the many that are none weigh little.
        spec["heatmap"]["bias"] = Param({"outputs": self.classes}, constant(-2.19))
        return spec

    def apply(self, params, x, state=None, key=None):
        """x[..., height, width, inputs] -> {"heatmap": logits[..., classes], "offset": [..., 2], "size": [..., 2]}

        Each [..., height / 4, width / 4, ·]. offset: from a place's upper left to the middle of the object, down and
        across, and size: its height and width, both in places.
        """
        for i, p in enumerate(params["stem"]):
            x = conv(p["conv"], x, 2)
            x = tap(f"stem_{i}", self.activation(group_norm(p["norm"], x, self.groups)))
        x = self.activation(self.body(params["body"], x, key=key))
        heads = {name: conv(params[name], x) for name in ("heatmap", "offset", "size")}
        return {**heads, "size": jnp.exp(jnp.clip(heads["size"], -4, 6))}, state
