"""Convolution and pooling in any number of dimensions, channels last."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jann.core import Param, ShapeError, Spec
from jann.layers.dtypes import along, floats, wide_dtype
from jann.layers.initializers import he_normal
from jann.trees import Tree


def conv_spec(
    inputs: int,
    outputs: int,
    window: Sequence[int] = (3, 3),
    groups: int = 1,
    bias: bool = True,
    init=he_normal,
) -> Spec:
    """Declares `weight[*window, inputs / groups, outputs]` and `bias[outputs]`, in as many dimensions as the window."""
    if inputs % groups or outputs % groups:
        raise ValueError(f"groups={groups} must divide inputs={inputs} and outputs={outputs}")
    space = {f"window{i}": size for i, size in enumerate(window)}
    axes = {**space, "inputs": inputs // groups, "outputs": outputs}
    weight = Param(axes, init, into=(*space, "inputs"))
    return {"weight": weight, "bias": Param({"outputs": outputs})} if bias else {"weight": weight}


def conv(
    p: Tree,
    x: jax.Array,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[tuple[int, int]] = "same",
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """x[..., *space, inputs] -> cross-correlation with the kernel, [..., *space', outputs]

    padding: "same" (output ceil(size / stride)), "valid" (none), "causal" (one dimension: no output sees later
             inputs), a number on every side, or (before, after) for each dimension.
    Groups follow from the kernel: inputs of x / inputs of the kernel.
    """
    weight = p["weight"]
    dims = weight.ndim - 2
    x = floats(x, "conv")
    if x.ndim < dims + 1 or x.shape[-1] % weight.shape[-2]:
        raise ShapeError(
            f"a kernel of shape {list(weight.shape)} takes x[..., {'size, ' * dims}{weight.shape[-2]}], "
            f"got {list(x.shape)}",
            weight,
        )
    groups = x.shape[-1] // weight.shape[-2]
    if weight.shape[-1] % groups:
        raise ShapeError(
            f"a kernel of shape {list(weight.shape)} on {x.shape[-1]} channels means {groups} groups, "
            f"which do not divide {weight.shape[-1]} outputs",
            weight,
        )
    dilation = _each(dilation, dims)
    batch = x.reshape(-1, *x.shape[-dims - 1 :])
    y = lax.conv_general_dilated(
        batch,
        weight.astype(x.dtype),
        _each(stride, dims),
        _padding(padding, weight.shape[:dims], dilation),
        rhs_dilation=dilation,
        dimension_numbers=_channels_last(dims),
        feature_group_count=groups,
    )
    y = y.reshape(*x.shape[: -dims - 1], *y.shape[1:])
    return y + along(p["bias"], y) if "bias" in p else y


def conv_transpose(
    p: Tree,
    x: jax.Array,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[tuple[int, int]] = "same",
) -> jax.Array:
    """x[..., *space, inputs] -> transposed convolution, [..., *space', outputs]

    The gradient of `conv` with respect to its input, with a kernel declared by `conv_spec(inputs, outputs, window)`
    (the convolution's own has inputs and outputs exchanged).
    "same" gives size * stride, "valid" (size - 1) * stride + window; a number p is PyTorch's `padding=p`:
    (size - 1) * stride - 2 p + window.
    """
    weight = p["weight"]
    dims = weight.ndim - 2
    x = floats(x, "conv_transpose")
    if x.ndim < dims + 1 or x.shape[-1] != weight.shape[-2]:
        raise ShapeError(
            f"a kernel of shape {list(weight.shape)} takes x[..., {'size, ' * dims}{weight.shape[-2]}], "
            f"got {list(x.shape)}",
            weight,
        )
    if isinstance(padding, str):
        pads = padding.upper()
    else:
        sides = [(padding, padding)] * dims if isinstance(padding, int) else padding
        pads = [(w - 1 - a, w - 1 - b) for w, (a, b) in zip(weight.shape[:dims], sides, strict=True)]
    y = lax.conv_transpose(
        x.reshape(-1, *x.shape[-dims - 1 :]),
        jnp.flip(weight, tuple(range(dims))).astype(x.dtype),  # a gradient runs through the window backwards
        _each(stride, dims),
        pads,
        dimension_numbers=_channels_last(dims),
    )
    y = y.reshape(*x.shape[: -dims - 1], *y.shape[1:])
    return y + along(p["bias"], y) if "bias" in p else y


def max_pool(x: jax.Array, window: Sequence[int], stride=None, padding="valid") -> jax.Array:
    """x[..., *space, channels] -> the largest value of each window, [..., *space', channels]

    stride: by default the window. padding as in `conv`; padded places never win.
    """
    return _pool(x, window, stride, padding, -jnp.inf, lax.max)


def average_pool(x: jax.Array, window: Sequence[int], stride=None, padding="valid") -> jax.Array:
    """x[..., *space, channels] -> the mean of each window, [..., *space', channels]; padded places do not count."""
    x = floats(x, "pooling")
    total = _pool(x.astype(wide_dtype(x)), window, stride, padding, 0.0, lax.add)
    places = jnp.ones((1,) * (x.ndim - len(window) - 1) + x.shape[-len(window) - 1 : -1] + (1,), total.dtype)
    n = _pool(places, window, stride, padding, 0.0, lax.add)
    return (total / n).astype(x.dtype)


def global_max_pool(x: jax.Array, dims: int = 2) -> jax.Array:
    """x[..., *space, channels] -> the largest value of each channel over `dims` axes, [..., channels]"""
    return x.max(tuple(range(-dims - 1, -1)))


def global_average_pool(x: jax.Array, dims: int = 2) -> jax.Array:
    """x[..., *space, channels] -> the mean of each channel over `dims` axes, [..., channels]"""
    x = floats(x, "pooling")
    return x.mean(tuple(range(-dims - 1, -1)), dtype=wide_dtype(x)).astype(x.dtype)


def _pool(x, window, stride, padding, start, combine):
    dims = len(window)
    if x.ndim < dims + 1:
        raise ValueError(f"a window of {dims} dimensions pools x[..., {'size, ' * dims}channels], got {list(x.shape)}")
    x = floats(x, "pooling")
    batch = x.reshape(-1, *x.shape[-dims - 1 :])
    pads = _padding(padding, window, (1,) * dims)
    y = lax.reduce_window(
        batch,
        np.array(start, x.dtype),  # concrete, so that JAX knows a maximum and a sum, and their gradients
        combine,
        (1, *window, 1),
        (1, *_each(window if stride is None else stride, dims), 1),
        pads if isinstance(pads, str) else [(0, 0), *pads, (0, 0)],
    )
    return y.reshape(*x.shape[: -dims - 1], *y.shape[1:])


def _padding(padding, window, dilation):
    if padding == "causal":
        if len(window) != 1:
            raise ValueError(f"causal padding is for one dimension, got a window of {len(window)}")
        return [((window[0] - 1) * dilation[0], 0)]
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"padding must be 'same', 'valid', 'causal', a number or pairs, got {padding!r}")
        return padding.upper()
    return [(padding, padding)] * len(window) if isinstance(padding, int) else list(padding)


def _each(value, dims):
    return (value,) * dims if isinstance(value, int) else tuple(value)


def _channels_last(dims):
    space = "DHW"[-dims:]
    return f"N{space}C", f"{space}IO", f"N{space}C"
