"""What `jax.nn` does not have: dropout, the threshold, two forms of gelu by name, relu squared, and soft caps."""

import jax
import jax.numpy as jnp

from jann.layers.dtypes import floats, wide_dtype


def dropout(x: jax.Array, rate: float | jax.Array, key: jax.Array | None) -> jax.Array:
    """x[...] -> x with each value zeroed with probability `rate`, the others divided by 1 - rate; no key, no noise.

    `rate` may be traced, so that a sweep over it compiles once; beyond 0 to 1 it is then NaN, else a ValueError.
    (Srivastava et al. 2014)
    """
    if isinstance(rate, (int, float)) and not 0 <= rate <= 1:
        raise ValueError(f"dropout's rate={rate} is a share of what is dropped: give 0 to 1")
    # Drawing noise for a rate that is written as zero took half the time of a small model's step.
    if key is None or (isinstance(rate, (int, float)) and rate == 0):
        return x
    x = floats(x, "dropout")
    keep = 1.0 - jnp.asarray(rate, wide_dtype(x))
    keep = jnp.where((keep >= 0) & (keep <= 1), keep, jnp.nan)
    kept = ~(jax.random.uniform(key, x.shape, keep.dtype) >= keep)  # so that NaN is kept
    return jnp.where(kept, x.astype(keep.dtype) / jnp.maximum(keep, jnp.finfo(keep.dtype).tiny), 0).astype(x.dtype)


def threshold(x: jax.Array) -> jax.Array:
    """x[...] -> 1 where x > 0, else 0: the step activation of the perceptron. Its gradient is zero everywhere."""
    return (x > 0).astype(x.dtype)


def exact_gelu(x: jax.Array) -> jax.Array:
    """x[...] -> x Φ(x), with the error function where `jax.nn.gelu` has tanh (Hendrycks and Gimpel 2016)"""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: jax.Array) -> jax.Array:
    """x[...] -> x σ(1.702 x), a cheaper form of gelu"""
    return x * jax.nn.sigmoid(1.702 * x)


def squared_relu(x: jax.Array) -> jax.Array:
    """x[...] -> max(x, 0)² (So et al. 2021, arXiv:2109.08668)"""
    return jnp.square(jax.nn.relu(x))


def soft_capped(x: jax.Array, cap: float | None) -> jax.Array:
    """x[...] -> cap tanh(x / cap), between -cap and cap and near x where that is small; no cap, x as it is (Gemma 2)"""
    return x if cap is None else cap * jnp.tanh(x / cap)
