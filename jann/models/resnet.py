"""Residual networks, in the form for CIFAR and the form for ImageNet."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.depth import apply_blocks, scope, tap
from jann.layers import (
    batch_norm,
    batch_norm_spec,
    conv,
    conv_spec,
    global_average_pool,
    linear,
    linear_spec,
    max_pool,
)

EXPANSION = {"basic": 1, "bottleneck": 4}  # channels that a block puts out, over the channels of its 3x3 convolution


class ResNet(Model):
    """Convolutional network of residual blocks, each adding to its input what its convolutions make of it.

    He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", CVPR. Padding is PyTorch's, so that
    published weights fit. The stride of a bottleneck is in its 3x3 convolution instead of the first 1x1 ("v1.5").

    inputs:    channels of the image
    outputs:   classes
    depths:    blocks in each stage; every stage but the first halves height and width
    widths:    channels of the 3x3 convolutions in each stage
    block:     "basic" (3x3, 3x3) or "bottleneck" (1x1, 3x3, 1x1 to four times the width)
    stem:      "cifar" (one 3x3 convolution) or "imagenet" (7x7 with stride 2, then 3x3 max-pooling with stride 2)
    shortcut:  where a block changes the shape: "A" takes every second place and adds zero channels, half before, half
               after; "B" projects with a 1x1 convolution and batch norm
    """

    inputs: int = 3
    outputs: int = 10
    depths: tuple[int, ...] = (3, 3, 3)
    widths: tuple[int, ...] = (16, 32, 64)
    block: str = "basic"
    stem: str = "cifar"
    shortcut: str = "A"
    activation: Callable = jax.nn.relu

    def __post_init__(self):
        choices = {"block": tuple(EXPANSION), "stem": ("cifar", "imagenet"), "shortcut": ("A", "B")}
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise ValueError(f"ResNet.{field} must be one of {', '.join(known)}, got {getattr(self, field)!r}")
        if len(self.depths) != len(self.widths):
            raise ValueError(f"ResNet needs a width for each stage, got depths={self.depths}, widths={self.widths}")
        if min(self.depths, default=0) < 1:
            raise ValueError(f"ResNet.depths={self.depths}: a stage has at least one block")
        if self.shortcut == "A" and list(self.widths) != sorted(self.widths):
            raise ValueError(f'ResNet.widths={self.widths}: shortcut "A" pads with zeros, narrower stages need "B"')

    def spec(self):
        window = 3 if self.stem == "cifar" else 7
        channels, stages = self.widths[0], []
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            stage = []
            for stride in self._strides(i, depth):
                stage.append(self._block_spec(channels, width, stride))
                channels = width * EXPANSION[self.block]
            stages.append(stage)
        return {
            "stem": _conv_norm_spec(self.inputs, self.widths[0], window),
            "stages": stages,
            "head": linear_spec(channels, self.outputs),
        }

    def _strides(self, stage: int, depth: int) -> list[int]:
        return [1 if stage == 0 else 2] + [1] * (depth - 1)

    def _block_spec(self, inputs: int, width: int, stride: int):
        outputs = width * EXPANSION[self.block]
        channels, windows = (inputs, width, outputs), (3, 3)
        if self.block == "bottleneck":
            channels, windows = (inputs, width, width, outputs), (1, 3, 1)
        spec = {}
        for n, ((a, b), window) in enumerate(zip(pairwise(channels), windows, strict=True), 1):
            spec[f"conv{n}"] = conv_spec(a, b, (window, window), bias=False)
            spec[f"norm{n}"] = batch_norm_spec(b)
        if self.shortcut == "B" and (stride > 1 or inputs != outputs):
            spec["shortcut"] = _conv_norm_spec(inputs, outputs, 1)
        return spec

    def apply(self, params, x, state=None, key=None):
        """x[..., height, width, inputs] -> (logits[..., outputs], batch statistics)"""
        statistics = {"stages": [], "head": {}}
        x, statistics["stem"] = _conv_norm(params["stem"], x, 1 if self.stem == "cifar" else 2)
        x = tap("stem", self.activation(x))
        if self.stem == "imagenet":
            x = max_pool(x, (3, 3), stride=2, padding=1)
        for i, blocks in enumerate(params["stages"]):
            with scope(f"stage_{i}"):
                x, outs = apply_blocks(self._block, x, blocks, self._strides(i, len(blocks)))
            statistics["stages"].append(outs)
            x = tap(f"stage_{i}", x)
        return linear(params["head"], global_average_pool(x)), statistics

    def _block(self, x, p, stride):
        """x[..., height, width, inputs] -> activation(shortcut(x) + convolutions(x)), and the batch statistics"""
        statistics: dict[str, Any] = {name: {} for name in p}
        strides = (1, stride, 1) if self.block == "bottleneck" else (stride, 1)
        y = x
        for n, step in enumerate(strides, 1):
            y = y if n == 1 else self.activation(y)
            y = conv(p[f"conv{n}"], y, step, padding=p[f"conv{n}"]["weight"].shape[0] // 2)
            y, statistics[f"norm{n}"] = batch_norm(p[f"norm{n}"], y)
        if "shortcut" in p:
            x, statistics["shortcut"] = _conv_norm(p["shortcut"], x, stride)
        else:
            x = _subsample(x, stride, y.shape[-1])
        return tap("block", self.activation(x + tap("branch", y))), statistics


def resnet20(classes: int = 10, width: int = 16, **fields) -> ResNet:
    """The paper's 20 layers for CIFAR: 3x3 convolutions only, shortcut "A"."""
    return _cifar(3, classes, width, **fields)


def resnet32(classes: int = 10, width: int = 16, **fields) -> ResNet:
    """The paper's 32 layers for CIFAR."""
    return _cifar(5, classes, width, **fields)


def resnet56(classes: int = 10, width: int = 16, **fields) -> ResNet:
    """The paper's 56 layers for CIFAR."""
    return _cifar(9, classes, width, **fields)


def resnet18(classes: int = 1000, width: int = 64, **fields) -> ResNet:
    """The paper's 18 layers for ImageNet, shortcut "B"."""
    return _imagenet((2, 2, 2, 2), "basic", classes, width, **fields)


def resnet34(classes: int = 1000, width: int = 64, **fields) -> ResNet:
    """The paper's 34 layers for ImageNet."""
    return _imagenet((3, 4, 6, 3), "basic", classes, width, **fields)


def resnet50(classes: int = 1000, width: int = 64, **fields) -> ResNet:
    """The paper's 50 layers for ImageNet, of bottleneck blocks."""
    return _imagenet((3, 4, 6, 3), "bottleneck", classes, width, **fields)


def _cifar(n: int, classes: int, width: int, **fields) -> ResNet:
    return ResNet(outputs=classes, depths=(n,) * 3, widths=(width, 2 * width, 4 * width), **fields)


def _imagenet(depths: tuple[int, ...], block: str, classes: int, width: int, **fields) -> ResNet:
    widths = tuple(width * 2**i for i in range(4))
    fields = {"stem": "imagenet", "shortcut": "B", **fields}
    return ResNet(outputs=classes, depths=depths, widths=widths, block=block, **fields)


def _conv_norm_spec(inputs: int, outputs: int, window: int):
    return {"conv": conv_spec(inputs, outputs, (window, window), bias=False), "norm": batch_norm_spec(outputs)}


def _conv_norm(p, x, stride):
    x = conv(p["conv"], x, stride, padding=p["conv"]["weight"].shape[0] // 2)
    x, statistics = batch_norm(p["norm"], x)
    return x, {"conv": {}, "norm": statistics}


def _subsample(x, stride, channels):
    """Shortcut "A": every `stride`-th place, with zero channels before and after up to `channels`."""
    x = x[..., ::stride, ::stride, :]
    missing = channels - x.shape[-1]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(missing // 2, missing - missing // 2)])
