"""Layers: plain functions from a dict of parameters and inputs to outputs.

Each layer with parameters has a builder of the same name with `_spec` that declares them. Features come last; any
leading axes are batch axes. A layer returns its input's dtype: kernels are cast to the input, reductions and norms are
done in float32 at least.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jann.core import Param, ShapeError, Spec
from jann.trees import Tree

lecun_normal = jax.nn.initializers.lecun_normal()
he_normal = jax.nn.initializers.he_normal()
small_normal = jax.nn.initializers.normal(0.02)
ones, zeros = jax.nn.initializers.ones, jax.nn.initializers.zeros


# linear


def linear_spec(inputs: int, outputs: int, bias: bool = True, init=lecun_normal) -> Spec:
    """Declares `weight[inputs, outputs]` and `bias[outputs]`."""
    weight = Param({"inputs": inputs, "outputs": outputs}, init, into=("inputs",))
    return {"weight": weight, "bias": Param({"outputs": outputs})} if bias else {"weight": weight}


def linear(p: Tree, x: jax.Array) -> jax.Array:
    """x[..., inputs] -> x W + b, [..., outputs]"""
    weight = p["weight"]
    x = _floats(x, "linear")
    if x.ndim == 0 or x.shape[-1] != weight.shape[0]:
        raise ShapeError(
            f"a weight of shape {list(weight.shape)} takes inputs[..., {weight.shape[0]}], got {list(x.shape)}", weight
        )
    y = x @ weight.astype(x.dtype)
    return y + _along(p["bias"], y) if "bias" in p else y


def embedding_spec(vocab: int, embed: int, init=small_normal) -> Spec:
    """Declares `table[vocab, embed]`."""
    return {"table": Param({"vocab": vocab, "embed": embed}, init)}


def embedding(p: Tree, ids: jax.Array) -> jax.Array:
    """ids[...] integers -> rows of the table, [..., embed]; an id outside the vocabulary gives NaN."""
    ids = jnp.asarray(ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"embedding takes integer ids, got {ids.dtype}")
    rows = jnp.take(p["table"], ids, axis=0, mode="fill", fill_value=jnp.nan)
    return jnp.where((ids < 0)[..., None], jnp.nan, rows)


# convolution


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
    x = _floats(x, "conv")
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
    return y + _along(p["bias"], y) if "bias" in p else y


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
    x = _floats(x, "conv_transpose")
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
    return y + _along(p["bias"], y) if "bias" in p else y


def max_pool(x: jax.Array, window: Sequence[int], stride=None, padding="valid") -> jax.Array:
    """x[..., *space, channels] -> the largest value of each window, [..., *space', channels]

    stride: by default the window. padding as in `conv`; padded places never win.
    """
    return _pool(x, window, stride, padding, -jnp.inf, lax.max)


def average_pool(x: jax.Array, window: Sequence[int], stride=None, padding="valid") -> jax.Array:
    """x[..., *space, channels] -> the mean of each window, [..., *space', channels]; padded places do not count."""
    x = _floats(x, "pooling")
    total = _pool(x.astype(_wide(x)), window, stride, padding, 0.0, lax.add)
    places = jnp.ones((1,) * (x.ndim - len(window) - 1) + x.shape[-len(window) - 1 : -1] + (1,), total.dtype)
    n = _pool(places, window, stride, padding, 0.0, lax.add)
    return (total / n).astype(x.dtype)


def global_max_pool(x: jax.Array, dims: int = 2) -> jax.Array:
    """x[..., *space, channels] -> the largest value of each channel over `dims` axes, [..., channels]"""
    return x.max(tuple(range(-dims - 1, -1)))


def global_average_pool(x: jax.Array, dims: int = 2) -> jax.Array:
    """x[..., *space, channels] -> the mean of each channel over `dims` axes, [..., channels]"""
    x = _floats(x, "pooling")
    return x.mean(tuple(range(-dims - 1, -1)), dtype=_wide(x)).astype(x.dtype)


def _pool(x, window, stride, padding, start, combine):
    dims = len(window)
    if x.ndim < dims + 1:
        raise ValueError(f"a window of {dims} dimensions pools x[..., {'size, ' * dims}channels], got {list(x.shape)}")
    x = _floats(x, "pooling")
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


# norms


def layer_norm_spec(features: int, bias: bool = True) -> Spec:
    """Declares `scale[features]` and `bias[features]`."""
    scale = Param({"features": features}, ones)
    return {"scale": scale, "bias": Param({"features": features})} if bias else {"scale": scale}


def layer_norm(p: Tree, x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """x[..., features] -> (x - mean) / sqrt(variance + epsilon) * scale + bias, over the last axis (Ba et al. 2016)"""
    wide = _features(p, x)
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    return _scaled(p, (wide - mean) * lax.rsqrt(variance + epsilon), x)


def rms_norm_spec(features: int) -> Spec:
    """Declares `scale[features]`."""
    return layer_norm_spec(features, bias=False)


def rms_norm(p: Tree, x: jax.Array, epsilon: float = 1e-6) -> jax.Array:
    """x[..., features] -> x / sqrt(mean(x²) + epsilon) * scale, over the last axis (Zhang and Sennrich 2019)"""
    wide = _features(p, x)
    return _scaled(p, wide * lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + epsilon), x)


def group_norm_spec(features: int) -> Spec:
    """Declares `scale[features]` and `bias[features]`."""
    return layer_norm_spec(features)


def group_norm(p: Tree, x: jax.Array, groups: int, dims: int = 2, epsilon: float = 1e-5) -> jax.Array:
    """x[..., *space, features] -> normalised over `dims` axes of space and each group of features (Wu and He 2018)

    groups=features is instance norm.
    """
    wide = _features(p, x)
    if x.shape[-1] % groups:
        raise ValueError(f"groups={groups} must divide {x.shape[-1]} features")
    parts = wide.reshape(*x.shape[:-1], groups, -1)
    axes = (*range(-dims - 2, -2), -1)
    mean = parts.mean(axes, keepdims=True)
    variance = jnp.square(parts - mean).mean(axes, keepdims=True)
    return _scaled(p, ((parts - mean) * lax.rsqrt(variance + epsilon)).reshape(x.shape), x)


def batch_norm_spec(features: int) -> Spec:
    """Declares `scale` and `bias`, and the running `mean` and `variance`, which are not trained; each [features]."""
    return {
        **layer_norm_spec(features),
        "mean": Param({"features": features}, zeros, trained=False),
        "variance": Param({"features": features}, ones, trained=False),
    }


def batch_norm(p: Tree, x: jax.Array, epsilon: float = 1e-5) -> tuple[jax.Array, Tree]:
    """x[..., features] -> (normalised over all axes but the last, statistics) (Ioffe and Szegedy 2015)

    With running `mean` and `variance` in `p`, they are used and the statistics are empty. Without, the batch's are used
    and returned under the same names, the variance unbiased as PyTorch keeps it; running averages of them are what
    evaluation then takes.
    """
    wide = _features(p, x)
    if "mean" in p:
        mean, variance, statistics = p["mean"], p["variance"], {}
    else:
        axes = tuple(range(x.ndim - 1))
        n = math.prod(x.shape[:-1])
        if n < 2:
            raise ValueError(
                "batch norm needs more than one value a feature to take the batch's statistics: give a batch, or "
                "parameters with the running mean and variance (jann.combine)"
            )
        mean = wide.mean(axes)
        variance = jnp.square(wide - _along(mean, wide)).mean(axes)
        statistics = {"mean": mean, "variance": variance * (n / (n - 1))}
        statistics = jax.tree.map(lax.stop_gradient, statistics)
    y = (wide - _along(mean, wide)) * lax.rsqrt(_along(variance, wide) + epsilon)
    return _scaled(p, y, x), statistics


def _features(p: Tree, x: jax.Array) -> jax.Array:
    scale = p["scale"]
    x = _floats(x, "a norm")
    if x.ndim == 0 or x.shape[-1] != scale.shape[0]:
        raise ShapeError(f"a norm of {scale.shape[0]} features got {list(x.shape)}", scale)
    return x.astype(_wide(x))


def _scaled(p: Tree, y: jax.Array, x: jax.Array) -> jax.Array:
    y = y * _along(p["scale"], y)
    return (y + _along(p["bias"], y) if "bias" in p else y).astype(x.dtype)


def _along(vector: jax.Array, x: jax.Array) -> jax.Array:
    """vector[features] -> [1, ..., 1, features] in x's dtype and rank."""
    return lax.broadcast_to_rank(vector.astype(x.dtype), x.ndim)


def _wide(x: jax.Array) -> Any:
    """At least float32, so that sums of half-precision values are accurate."""
    return jnp.promote_types(x.dtype, jnp.float32)


# noise and activations


def dropout(x: jax.Array, rate: float | jax.Array, key: jax.Array | None) -> jax.Array:
    """x[...] -> x with each value zeroed with probability `rate`, the others divided by 1 - rate; no key, no noise.

    `rate` may be traced, so that a sweep over it compiles once. (Srivastava et al. 2014)
    """
    # Drawing noise for a rate that is written as zero took half the time of a small model's step.
    if key is None or (isinstance(rate, (int, float)) and rate == 0):
        return x
    keep = 1.0 - jnp.asarray(rate, _wide(x))
    kept = jax.random.uniform(key, x.shape, keep.dtype) < keep
    return jnp.where(kept, x / jnp.maximum(keep, jnp.finfo(keep.dtype).tiny), 0).astype(x.dtype)


def threshold(x: jax.Array) -> jax.Array:
    """x[...] -> 1 where x > 0, else 0: the step activation of the perceptron. Its gradient is zero everywhere."""
    return (x > 0).astype(x.dtype)


def _floats(x: jax.Array, layer: str) -> jax.Array:
    x = jnp.asarray(x)  # a NumPy array of float64 is float32 to JAX, and must not set the kernels' dtype
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{layer} takes floating-point inputs, got {x.dtype}: scale them first, e.g. x / 255")
    return x
