"""Numbers, such as places and times, as vectors."""

import math

import jax
import jax.numpy as jnp


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
