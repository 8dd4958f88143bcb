"""Norms: layer, RMS, group and batch."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jann.core import Param, ShapeError, Spec
from jann.layers.dtypes import along, floats, wide_dtype
from jann.layers.initializers import ones, zeros
from jann.trees import Tree


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

    groups=features is instance norm. x[batch, time, features] has dims=1: with 2 its batch would count as space.
    """
    wide = _features(p, x)
    if x.ndim <= dims:
        raise ValueError(f"dims={dims} axes of space before the features, got {list(x.shape)}: give their number")
    if x.shape[-1] % groups:
        raise ValueError(f"groups={groups} must divide {x.shape[-1]} features")
    parts = wide.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
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
        variance = jnp.square(wide - along(mean, wide)).mean(axes)
        statistics = {"mean": mean, "variance": variance * (n / (n - 1))}
        statistics = jax.tree.map(lax.stop_gradient, statistics)
    y = (wide - along(mean, wide)) * lax.rsqrt(along(variance, wide) + epsilon)
    return _scaled(p, y, x), statistics


def _features(p: Tree, x: jax.Array) -> jax.Array:
    scale = p["scale"]
    x = floats(x, "a norm")
    if x.ndim == 0 or x.shape[-1] != scale.shape[0]:
        raise ShapeError(f"a norm of {scale.shape[0]} features got {list(x.shape)}", scale)
    return x.astype(wide_dtype(x))


def _scaled(p: Tree, y: jax.Array, x: jax.Array) -> jax.Array:
    y = y * along(p["scale"], y)
    return (y + along(p["bias"], y) if "bias" in p else y).astype(x.dtype)
