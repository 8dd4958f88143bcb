"""A convolution of which the gradients, too, have the order of axes that XLA's CPU compiler has fast code for.

Its fast code takes inputs [batch, *space, inputs] and kernels [*window, inputs, outputs]. Outside loops it moves the
axes of others there first, but then joins to the move whatever made the input, which is computed once more and element
by element in the order of the moved axes. Inside a loop (`lax.scan`) it moves nothing and runs code that is 50 to 100
times slower. JAX's own rules lead to other orders for both gradients. The rules here lead to that order, and the moves
are programs of their own, to which nothing can be joined.
"""

import re
from collections.abc import Callable
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


def convolve_few(
    x: jax.Array, weight: jax.Array, stride: tuple[int, ...], padding: Pads, dilation: tuple[int, ...]
) -> jax.Array:
    """The same for few inputs: the window's places along the last axis of space become inputs of a narrower window.

    XLA gathers all places of a window for each output; here it gathers those of one axis. The gradient for
    [128, 14, 14, 6] from 16 outputs of a 5 x 5 window takes 0.9 ms in place of 3.3.
    """
    *window, places, inputs, outputs = weight.shape
    pads = padding
    if isinstance(padding, str):
        reach = [(size - 1) * d + 1 for size, d in zip(weight.shape[:-2], dilation, strict=True)]
        pads = lax.padtype_to_pads(x.shape[1:-1], reach, stride, padding)
    columns = _apart(_columns, x, places, stride[-1], pads[-1], dilation[-1])
    weight = weight.reshape(*window, 1, places * inputs, outputs)
    return convolve(columns, weight, (*stride[:-1], 1), (*pads[:-1], (0, 0)), (*dilation[:-1], 1))


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _columns(x, places, stride, pad, dilation):
    """x[..., width, inputs] -> what a window sees of a row, [..., width', places * inputs]"""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0)] * (x.ndim - 2) + [(*pad, 0), (0, 0, 0)])
    last = max(0, x.shape[-2] - dilation * (places - 1))
    return jnp.concatenate([x[..., i * dilation : i * dilation + last : stride, :] for i in range(places)], -1)


def _convolve(x, weight, stride, padding, dilation, names):
    return lax.conv_general_dilated(x, weight, stride, padding, rhs_dilation=dilation, dimension_numbers=names)


def _moved(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return _apart(_transposed, x, axes)


@partial(jax.jit, static_argnums=1)
def _transposed(x, axes):
    return x.transpose(axes)


def _apart(compiled: Callable, x: jax.Array, *options: Any) -> jax.Array:
    """What a jitted function returns; nothing of what is before and after is joined to it."""
    if jax.device_count() > 1:  # it would not be split over devices
        return compiled(x, *options)
    with set_xla_metadata(inlineable="false"):
        return compiled(x, *options)
