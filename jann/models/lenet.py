"""LeNet-5."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jann.core import Model
from jann.depth import tap
from jann.layers import average_pool, conv, conv_spec, lecun_normal, linear, linear_spec


class LeNet(Model):
    """LeNet-5: two convolutions with pooling, then three fully connected layers.

    LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition", Proceedings of
    the IEEE 86. As it is used today: the pooling has no weights of its own, every map of the second convolution sees
    all maps of the first, and the output is linear instead of Euclidean radial basis functions.

    inputs:      channels of the image
    outputs:     classes
    size:        height and width of the image, 32 as in the paper or 28, which is padded to 32
    activation:  tanh as in the paper; jax.nn.relu trains faster
    pooling:     `average_pool` as in the paper, or `max_pool`
    """

    inputs: int = 1
    outputs: int = 10
    size: int = 28
    activation: Callable = jnp.tanh
    pooling: Callable = average_pool

    def __post_init__(self):
        if self.size not in (28, 32):
            raise ValueError(f"LeNet.size must be 28 or 32, got {self.size}: resize or crop the images")

    def spec(self):
        return {
            "conv1": conv_spec(self.inputs, 6, (5, 5), init=lecun_normal),
            "conv2": conv_spec(6, 16, (5, 5), init=lecun_normal),
            "dense1": linear_spec(16 * 5 * 5, 120),
            "dense2": linear_spec(120, 84),
            "head": linear_spec(84, self.outputs),
        }

    def apply(self, params, x, state=None, key=None):
        """x[..., size, size, inputs] -> logits[..., outputs]"""
        if x.shape[-3:-1] != (self.size, self.size):
            raise ValueError(f"{self!r} takes x[..., {self.size}, {self.size}, {self.inputs}], got {list(x.shape)}")
        x = conv(params["conv1"], x, padding=(32 - self.size) // 2)
        x = self.pooling(tap("conv1", self.activation(x)), (2, 2))
        x = conv(params["conv2"], x, padding="valid")
        x = self.pooling(tap("conv2", self.activation(x)), (2, 2))
        x = lax.collapse(x, -3)
        x = tap("dense1", self.activation(linear(params["dense1"], x)))
        x = tap("dense2", self.activation(linear(params["dense2"], x)))
        return linear(params["head"], x), state
