"""Numbers, such as places and times, as vectors."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jann.layers.dtypes import wide_dtype


def sinusoidal(values: jax.Array, features: int, longest: float = 10_000.0, inclusive: bool = False) -> jax.Array:
    """values[...] -> sines, then cosines, of them at falling frequencies: [..., features] in float32

    The frequencies are longest^(-i / n) for i = 0 .. n - 1, n = features / 2; with `inclusive` they go down to
    1 / longest itself, longest^(-i / (n - 1)). (Vaswani et al. 2017, there with sines and cosines alternating.)
    """
    n = features // 2
    if features % 2 or n <= inclusive:
        raise ValueError(f"features={features}: half are sines and half cosines, so an even number is needed")
    frequencies = jnp.exp(-math.log(longest) / (n - inclusive) * jnp.arange(n, dtype=jnp.float32))
    angles = jnp.asarray(values, jnp.float32)[..., None] * jax.lax.broadcast_to_rank(frequencies, jnp.ndim(values) + 1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def interpolated(grid: jax.Array, rows: int, columns: int) -> jax.Array:
    """Vectors at the places of a grid[height, width, features] -> at those of another, [rows, columns, features]

    Bicubic, with the constants and edges of PyTorch's `interpolate`, which trained ViTs are resized by; those of
    `jax.image.resize` differ. (Keys 1981, a = -0.75)
    """
    height, width, _ = (grid := jnp.asarray(grid)).shape
    wide = grid.astype(wide_dtype(grid))
    return jnp.einsum("rh,cw,hwf->rcf", _cubic(height, rows), _cubic(width, columns), wide).astype(grid.dtype)


def _cubic(count: int, wanted: int) -> np.ndarray:
    """[wanted, count]: how much of each place is in each of those wanted, which lie evenly over the same length"""
    at = (np.arange(wanted) + 0.5) * count / wanted - 0.5
    near = np.floor(at)[:, None] + np.arange(-1, 3)
    away = np.abs(at[:, None] - near)
    inner, outer = ((1.25 * away - 2.25) * away**2 + 1), -0.75 * (((away - 5) * away + 8) * away - 4)
    weights = np.zeros((wanted, count), np.float32)
    places = near.clip(0, count - 1).astype(int)
    np.add.at(weights, (np.arange(wanted)[:, None], places), np.where(away <= 1, inner, outer))
    return weights


def relative_bucket(relative: jax.Array, buckets: int, furthest: int, bidirectional: bool) -> jax.Array:
    """Differences of positions, there - here -> the number of their bucket: exact when near, by the logarithm beyond

    (T5: Raffel et al. 2019, arXiv:1910.10683; MPNet) Raises ValueError for fewer buckets than 2, or 4 of both sides.
    """
    if buckets < (least := 4 if bidirectional else 2):
        raise ValueError(f"{buckets} buckets of relative positions: give at least {least}")
    offset = 0
    if bidirectional:
        buckets //= 2
        offset = jnp.where(relative > 0, buckets, 0)
        distance = jnp.abs(relative)
    else:
        distance = jnp.maximum(-relative, 0)
    exact = buckets // 2
    ratio = jnp.log(jnp.maximum(distance, 1) / exact) / math.log(furthest / exact)
    far = jnp.minimum(exact + (ratio * (buckets - exact)).astype(jnp.int32), buckets - 1)
    return offset + jnp.where(distance < exact, distance, far)
