"""VGG: plain convolutional networks with small windows."""

from collections.abc import Callable
from itertools import pairwise

import jax

from jann.core import Model
from jann.depth import tap
from jann.drawing import fold
from jann.layers import (
    batch_norm,
    batch_norm_spec,
    conv,
    conv_spec,
    dropout,
    global_average_pool,
    linear,
    linear_spec,
    max_pool,
)


class VGG(Model):
    """Blocks of 3x3 convolutions, each block ending in 2x2 max-pooling, then a classifier.

    Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", ICLR. The paper's
    own have widths ((64, 64), (128, 128), (256, 256, 256), ...), hidden=(4096, 4096), dropout=0.5, no batch norm.

    inputs:      channels of the image
    outputs:     classes
    widths:      for each block, the channels of its convolutions; each block halves height and width
    hidden:      sizes of fully connected layers on all places of the last block; by default its mean over the places
                 goes straight to the output (Lin, Chen and Yan 2014), so that any image size will do
    size:        height and width of the image; only `hidden` needs it
    batch_norm:  normalise after each convolution, before the activation (Ioffe and Szegedy 2015)
    dropout:     rate before each fully connected layer
    """

    inputs: int = 1
    outputs: int = 10
    widths: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64), (128,))
    hidden: tuple[int, ...] = ()
    size: int = 28
    batch_norm: bool = True
    dropout: float = 0.0
    activation: Callable = jax.nn.relu

    def spec(self):
        def layer(inputs, outputs):
            spec = {"conv": conv_spec(inputs, outputs, bias=not self.batch_norm)}
            return {**spec, "norm": batch_norm_spec(outputs)} if self.batch_norm else spec

        channels = iter(pairwise((self.inputs, *(width for block in self.widths for width in block))))
        places = (self.size // 2 ** len(self.widths)) ** 2 if self.hidden else 1
        sizes = (self.widths[-1][-1] * places, *self.hidden, self.outputs)
        return {
            "blocks": [[layer(*next(channels)) for _ in block] for block in self.widths],
            "dense": [linear_spec(a, b) for a, b in pairwise(sizes)],
        }

    def apply(self, params, x, state=None, key=None):
        """x[..., height, width, inputs] -> (logits[..., outputs], batch statistics)"""
        statistics = {"blocks": [], "dense": [{} for _ in params["dense"]]}
        for i, block in enumerate(params["blocks"]):
            statistics["blocks"].append([{name: {} for name in p} for p in block])
            for j, p in enumerate(block):
                x = conv(p["conv"], x)
                if self.batch_norm:
                    x, statistics["blocks"][i][j]["norm"] = batch_norm(p["norm"], x)
                x = tap(f"block_{i}_conv_{j}", self.activation(x))
            x = tap(f"block_{i}", max_pool(x, (2, 2)))
        x = jax.lax.collapse(x, -3) if self.hidden else global_average_pool(x)
        *hidden, head = params["dense"]
        for i, p in enumerate(hidden):
            x = dropout(x, self.dropout, fold(key, f"dropout_{i}"))
            x = tap(f"hidden_{i}", self.activation(linear(p, x)))
        x = dropout(x, self.dropout, fold(key, "dropout"))
        return linear(head, x), statistics
