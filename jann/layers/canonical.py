"""A convolution of which the gradients, too, have the order of axes that XLA's CPU compiler has fast code for.

Its fast code takes inputs [batch, *space, inputs] and kernels [*window, inputs, outputs]. Outside loops it moves the
axes of others there first, but then joins to the move whatever made the input, which is computed once more and element
by element in the order of the moved axes. Inside a loop (`lax.scan`) it moves nothing and runs code that is 50 to 100
times slower. JAX's own rules lead to other orders for both gradients. The rules here lead to that order, and the moves
are programs of their own, to which nothing can be joined.
"""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental.xla_metadata import set_xla_metadata

Pads = str | tuple[tuple[int, int], ...]
Names = tuple[str, str, str]  # of the axes of inputs, kernels, outputs


def channels_last(dims: int) -> Names:
    """The names that XLA gives to the axes of inputs, kernels and outputs in its order for `dims` axes of space"""
    space = "DHW"[-dims:]
    return f"N{space}C", f"{space}IO", f"N{space}C"


ORDERS = {str(lax.conv_dimension_numbers(*2 * [(1,) * (dims + 2)], channels_last(dims))) for dims in (1, 2, 3)}


def convolutions_are_canonical(program: Any) -> bool:
    """Whether all convolutions of a traced program (a jaxpr) have the order that is fast inside a loop, too"""
    return ORDERS.issuperset(re.findall(r"ConvDimensionNumbers\(.*?\)\)", str(program)))


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def convolve(
    x: jax.Array, weight: jax.Array, stride: tuple[int, ...], padding: Pads, dilation: tuple[int, ...]
) -> jax.Array:
    """x[batch, *space, inputs], weight[*window, inputs, outputs] -> cross-correlation, [batch, *space', outputs]"""
    return _convolve(x, weight, stride, padding, dilation, channels_last(len(stride)))


@partial(convolve.defjvp, symbolic_zeros=True)
def _rule(stride, padding, dilation, primals, tangents):
    (x, weight), (dx, dweight) = primals, tangents
    dims = len(stride)
    space, axes = "DHW"[-dims:], tuple(range(dims))
    y = convolve(x, weight, stride, padding, dilation)
    parts = []
    # A transposed rule keeps each array's order and exchanges the roles of the axes: batch and channels where the
    # kernel is linear, inputs and outputs where the input is. So these orders are the fast one seen from there.
    if not isinstance(dx, SymbolicZero):
        names = f"N{space}C", f"{space}OI", f"N{space}C"
        parts.append(_convolve(dx, jnp.swapaxes(weight, -1, -2), stride, padding, dilation, names))
    if not isinstance(dweight, SymbolicZero):
        names = f"C{space}N", f"I{space}O", f"{space}NC"
        channels_first = _moved(x, (dims + 1, *(a + 1 for a in axes), 0))
        inputs_first = dweight.transpose(dims, *axes, dims + 1)
        out = _convolve(channels_first, inputs_first, stride, padding, dilation, names)
        parts.append(_moved(out, (dims, *axes, dims + 1)))
    return y, sum(parts) if parts else SymbolicZero(y.aval)


def _convolve(x, weight, stride, padding, dilation, names):
    return lax.conv_general_dilated(x, weight, stride, padding, rhs_dilation=dilation, dimension_numbers=names)


def _moved(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    if jax.device_count() > 1:  # a program apart would not be split over devices
        return x.transpose(axes)
    with set_xla_metadata(inlineable="false"):
        return _transposed(x, axes)


@partial(jax.jit, static_argnums=1)
def _transposed(x, axes):
    return x.transpose(axes)
