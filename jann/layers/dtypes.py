"""In which dtype a layer computes: its input's, and at least float32 in sums."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def floats(x: jax.Array, layer: str) -> jax.Array:
    x = jnp.asarray(x)  # a NumPy array of float64 is float32 to JAX, and must not set the kernels' dtype
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{layer} takes floating-point inputs, got {x.dtype}: scale them first, e.g. x / 255")
    return x


def wide_dtype(x: jax.Array) -> Any:
    """At least float32, so that sums of half-precision values are accurate."""
    # Not jnp.promote_types, which raises for two types where promotion is asked to be strict.
    return x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) and x.dtype.itemsize >= 4 else jnp.float32


def wide_integers(x: jax.Array) -> jax.Array:
    """x[...] of at least 32 bits: 256 is no number of uint8."""
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.int32)


def along(values: jax.Array, x: jax.Array) -> jax.Array:
    """values[*features] -> [1, ..., 1, *features] in x's dtype and rank."""
    return lax.broadcast_to_rank(values.astype(x.dtype), x.ndim)
