"""Single layers as models, to put together with `chain`, `residual` and `parallel`."""

from jax import lax

from jann.core import Model
from jann.layers import batch_norm, batch_norm_spec, conv, conv_spec, dropout, linear, linear_spec


class Linear(Model):
    """x[..., inputs] -> x W + b, [..., outputs]"""

    inputs: int
    outputs: int
    bias: bool = True

    def spec(self):
        return linear_spec(self.inputs, self.outputs, self.bias)

    def apply(self, params, x, state=None, key=None):
        return linear(params, x), state


class Conv(Model):
    """x[..., *space, inputs] -> cross-correlation, [..., *space', outputs]; padding as in `jann.layers.conv`"""

    inputs: int
    outputs: int
    window: tuple[int, ...] = (3, 3)
    stride: int | tuple[int, ...] = 1
    padding: str | int | tuple[tuple[int, int], ...] = "same"
    groups: int = 1
    bias: bool = True
    dilation: int | tuple[int, ...] = 1

    def spec(self):
        return conv_spec(self.inputs, self.outputs, self.window, self.groups, self.bias)

    def apply(self, params, x, state=None, key=None):
        return conv(params, x, self.stride, self.padding, self.dilation, self.groups), state


class BatchNorm(Model):
    """x[..., features] -> (normalised over all axes but the last, statistics); see `jann.layers.batch_norm`"""

    features: int

    def spec(self):
        return batch_norm_spec(self.features)

    def apply(self, params, x, state=None, key=None):
        return batch_norm(params, x)


class Dropout(Model):
    """x[...] -> x with each value zeroed with probability `rate`, the others scaled up; without a key, x."""

    rate: float

    def spec(self):
        return {}

    def apply(self, params, x, state=None, key=None):
        return dropout(x, self.rate, key), state


class Flatten(Model):
    """x[..., a, b, c] -> [..., a b c]: the last `dims` axes as one, e.g. 3 for images before an MLP."""

    dims: int

    def spec(self):
        return {}

    def apply(self, params, x, state=None, key=None):
        if x.ndim < self.dims:
            raise ValueError(f"{self!r} takes at least {self.dims} axes, got {list(x.shape)}")
        return lax.collapse(x, x.ndim - self.dims), state
