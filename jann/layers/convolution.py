"""Convolution in one to three dimensions and pooling in any number, channels last."""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jann.core import Param, ShapeError, Spec
from jann.layers.canonical import channels_last, convolve, convolve_few
from jann.layers.dtypes import along, floats, wide_dtype
from jann.layers.initializers import he_normal
from jann.trees import Tree

Number = int | np.integer
FEW = 8  # inputs, up to which a convolution gains on a CPU from seeing a row of its window as one place


def conv_spec(
    inputs: int,
    outputs: int,
    window: Sequence[int] = (3, 3),
    groups: int = 1,
    bias: bool = True,
    init=he_normal,
) -> Spec:
    """Declares `weight[*window, inputs / groups, outputs]` and `bias[outputs]`, in as many dimensions as the window.

    Raises ValueError for a window of more than three dimensions, and for groups that do not divide the channels.
    """
    _dimensions(_checked_window(window))
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
    padding: str | int | Sequence[int | tuple[int, int]] = "same",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    """x[..., *space, inputs] -> cross-correlation with the kernel, [..., *space', outputs]

    padding: "same" (output ceil(size / stride)), "valid" (none), "causal" (one dimension: no output sees later
             inputs), a number on every side, or for each dimension a number or (before, after)
    groups:  as in `conv_spec`

    Raises ShapeError where kernel and channels do not fit, ValueError where x is smaller than the window.
    """
    weight = p["weight"]
    dims = _dimensions(weight.shape[:-2], weight)
    x = floats(x, "conv")
    if x.ndim < dims + 1 or x.shape[-1] != groups * weight.shape[-2] or weight.shape[-1] % groups:
        of_groups = f" with groups={groups}" if groups != 1 else ""
        raise ShapeError(
            f"a kernel of shape {list(weight.shape)}{of_groups} takes "
            f"x[..., {'size, ' * dims}{groups * weight.shape[-2]}], got {list(x.shape)}",
            weight,
        )
    dilation = _each(dilation, dims, "dilation")
    batch = x.reshape(math.prod(x.shape[: -dims - 1]), *x.shape[-dims - 1 :])
    weight, stride = weight.astype(x.dtype), _each(stride, dims, "stride")
    pads = _padding(padding, weight.shape[:dims], dilation)
    if groups == 1 and jax.default_backend() == "cpu":
        few = x.shape[-1] <= FEW and weight.shape[dims - 1] > 1
        y = (convolve_few if few else convolve)(batch, weight, stride, pads, dilation)
    else:
        y = lax.conv_general_dilated(
            batch,
            weight,
            stride,
            pads,
            rhs_dilation=dilation,
            dimension_numbers=channels_last(dims),
            feature_group_count=groups,
        )
    _refuse_empty(x, y, f"window {list(weight.shape[:dims])}, dilation {list(dilation)} and padding {padding!r}")
    y = y.reshape(*x.shape[: -dims - 1], *y.shape[1:])
    return y + along(p["bias"], y) if "bias" in p else y


def conv_transpose(
    p: Tree,
    x: jax.Array,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int | tuple[int, int]] = "same",
) -> jax.Array:
    """x[..., *space, inputs] -> transposed convolution, [..., *space', outputs]

    The gradient of `conv` with respect to its input, with a kernel declared by `conv_spec(inputs, outputs, window)`
    (the convolution's own has inputs and outputs exchanged).
    "same" gives size * stride, "valid" (size - 1) * stride + window; a number p is PyTorch's `padding=p`:
    (size - 1) * stride - 2 p + window; for each dimension a number or (before, after) are too.

    Raises ShapeError where kernel and channels do not fit, ValueError where nothing is left.
    """
    weight = p["weight"]
    dims = _dimensions(weight.shape[:-2], weight)
    x = floats(x, "conv_transpose")
    if x.ndim < dims + 1 or x.shape[-1] != weight.shape[-2]:
        raise ShapeError(
            f"a kernel of shape {list(weight.shape)} takes x[..., {'size, ' * dims}{weight.shape[-2]}], "
            f"got {list(x.shape)}",
            weight,
        )
    window, stride = weight.shape[:dims], _each(stride, dims, "stride")
    if isinstance(padding, str):
        pads = [_transpose_padding(padding, *sizes) for sizes in zip(window, stride, strict=True)]
    else:
        sides = _padding(padding, window, (1,) * dims)
        pads = [(w - 1 - a, w - 1 - b) for w, (a, b) in zip(window, sides, strict=True)]
    sizes = zip(x.shape[-dims - 1 : -1], stride, window, pads, strict=True)
    if any((n - 1) * s + 2 + sum(sides) - w < 1 for n, s, w, sides in sizes):
        raise ValueError(f"x of shape {list(x.shape)} leaves nothing by window {list(window)} and padding {padding!r}")
    y = lax.platform_dependent(
        x.reshape(-1, *x.shape[-dims - 1 :]),
        weight.astype(x.dtype),
        cpu=functools.partial(_spread_products, stride=stride, pads=pads),
        default=functools.partial(_dilated_convolution, stride=stride, pads=pads),
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
    dims = len(_checked_window(window))
    if x.ndim < dims + 1:
        raise ValueError(f"a window of {dims} dimensions pools x[..., {'size, ' * dims}channels], got {list(x.shape)}")
    x = floats(x, "pooling")
    batch = x.reshape(math.prod(x.shape[: -dims - 1]), *x.shape[-dims - 1 :])
    pads = _padding(padding, window, (1,) * dims)
    if not isinstance(pads, str) and any(max(sides) >= size for sides, size in zip(pads, window, strict=True)):
        raise ValueError(f"padding {padding!r} and window {list(window)}: a window would see nothing but padding")
    y = lax.reduce_window(
        batch,
        np.array(start, x.dtype),  # concrete, so that JAX knows a maximum and a sum, and their gradients
        combine,
        (1, *window, 1),
        (1, *_each(window if stride is None else stride, dims, "stride"), 1),
        pads if isinstance(pads, str) else [(0, 0), *pads, (0, 0)],
    )
    _refuse_empty(x, y, f"window {list(window)} and padding {padding!r}")
    return y.reshape(*x.shape[: -dims - 1], *y.shape[1:])


def _checked_window(window):
    if isinstance(window, Number):
        raise TypeError(f"window is a tuple, a size for each dimension: write ({window}, {window}) for two of them")
    return window


def _dimensions(window: Sequence[int], weight: jax.Array | None = None) -> int:
    if not 1 <= len(window) <= 3:
        raise ShapeError(f"a convolution has a window of one to three dimensions, got {list(window)}", weight)
    return len(window)


def _refuse_empty(x: jax.Array, y: jax.Array, by: str) -> None:
    if 0 in y.shape[1:-1]:
        raise ValueError(f"x of shape {list(x.shape)} leaves nothing by {by}: it is smaller than the window")


def _transpose_padding(padding, window, stride):
    """How far a dilated input is padded (before, after) so that its convolution has the size asked for."""
    if padding == "same":
        total = window + stride - 2
        before = window - 1 if stride > window - 1 else -(-total // 2)
        return before, total - before
    if padding == "valid":
        return window - 1, window - 1
    raise ValueError(f"padding of conv_transpose must be 'same', 'valid', a number or pairs, got {padding!r}")


def _dilated_convolution(x, weight, stride, pads):
    weight = jnp.flip(weight, tuple(range(weight.ndim - 2)))  # a gradient runs through the window backwards
    return lax.conv_transpose(x, weight, stride, pads, dimension_numbers=channels_last(weight.ndim - 2))


def _spread_products(x, weight, stride, pads):
    """The same from one matrix product: what each place spreads over its window, added up where windows overlap.

    XLA's CPU backend takes 3 to 10 times as long for the gradient of the dilated convolution (86 ms against 11 for
    7 x 7 x 64 to 14 x 14 x 32 channels, window 4, stride 2, batch 64).
    """
    dims, (inputs, outputs) = weight.ndim - 2, weight.shape[-2:]
    window, places = weight.shape[:dims], x.shape[1:-1]
    taps = [-(-w // s) for w, s in zip(window, stride, strict=True)]  # windows that cover a place, along each axis
    whole = [(0, t * s - w) for t, s, w in zip(taps, stride, window, strict=True)]
    weight = jnp.moveaxis(jnp.pad(weight, [*whole, (0, 0), (0, 0)]), -2, 0)
    spread = (x.reshape(-1, inputs) @ weight.reshape(inputs, -1)).reshape(
        x.shape[0], *places, *(size for pair in zip(taps, stride, strict=True) for size in pair), outputs
    )
    total = 0
    for tap in itertools.product(*map(range, taps)):
        here = spread[(slice(None),) * (1 + dims) + tuple(part for t in tap for part in (t, slice(None)))]
        shift = [(t, n - 1 - t) for t, n in zip(tap, taps, strict=True)]
        total = total + jnp.pad(here, [(0, 0), *shift, *[(0, 0)] * (dims + 1)])
    interleaved = (0, *(axis for d in range(dims) for axis in (1 + d, 1 + dims + d)), 1 + 2 * dims)
    sizes = [(n + t - 1) * s for n, t, s in zip(places, taps, stride, strict=True)]
    total = total.transpose(interleaved).reshape(x.shape[0], *sizes, outputs)
    edges = []
    for (before, after), w, s, n, size in zip(pads, window, stride, places, sizes, strict=True):
        start, length = w - 1 - before, (n - 1) * s + 1 + before + after - (w - 1)
        edges.append((-start, start + length - size, 0))
    return lax.pad(total, jnp.zeros((), total.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _padding(padding, window, dilation):
    if padding == "causal":
        if len(window) != 1:
            raise ValueError(f"causal padding is for one dimension, got a window of {len(window)}")
        return (((window[0] - 1) * dilation[0], 0),)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"padding must be 'same', 'valid', 'causal', a number or pairs, got {padding!r}")
        return padding.upper()
    if isinstance(padding, Number):
        return ((padding, padding),) * len(window)
    sides = _sized(padding, len(window), "padding")
    return tuple((side, side) if isinstance(side, Number) else tuple(side) for side in sides)


def _each(value, dims, what):
    return (value,) * dims if isinstance(value, Number) else _sized(value, dims, what)


def _sized(values, dims, what):
    if len(values) != dims:
        raise ValueError(f"{what}={values!r} is for {len(values)} dimensions, and there are {dims}")
    return tuple(values)


def image_patches(images: jax.Array, patch: tuple[int, int]) -> jax.Array:
    """images[..., height, width, channels] -> [..., patches, *patch, channels], those of a row beside each other

    Rows below and columns to the right of the last whole patch are left out.
    """
    *lead, height, width, channels = images.shape
    rows, columns = height // patch[0], width // patch[1]
    x = images[..., : rows * patch[0], : columns * patch[1], :]
    x = x.reshape(*lead, rows, patch[0], columns, patch[1], channels)
    return jnp.moveaxis(x, -3, -4).reshape(*lead, rows * columns, *patch, channels)
