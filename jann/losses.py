"""Losses that Optax does not have."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def quantile_loss(outputs: jax.Array, target: jax.Array, quantiles: Sequence[float]) -> jax.Array:
    """outputs[..., quantiles], target[...] -> max(q e, (q - 1) e) with e = target - output, each [..., quantiles]

    The pinball loss: its expectation is least where the output is the target's quantile q (Koenker and Bassett 1978).
    Half the absolute error for q = 0.5.
    """
    if outputs.shape != (*target.shape, len(quantiles)):
        raise ValueError(
            f"outputs {list(outputs.shape)} must be those of target {list(target.shape)} and {len(quantiles)} quantiles"
        )
    levels = np.asarray(quantiles, np.float32)
    if not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"quantiles={tuple(quantiles)} must lie between 0 and 1")
    outputs, target = (x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (outputs, target))
    error = target[..., None] - outputs
    levels = jax.lax.broadcast_to_rank(jnp.asarray(levels, error.dtype), error.ndim)
    return jnp.maximum(levels * error, (levels - 1) * error)
