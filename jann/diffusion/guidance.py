"""Conditions, made stronger than they were in training."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jann.diffusion.predictions import over_features


def drop_labels(labels: jax.Array, null: int, rate: float, key: jax.Array | None) -> jax.Array:
    """labels[...] -> each replaced by `null` with probability `rate`, so that a model also learns to do without."""
    if key is None:
        return labels
    return jnp.where(jax.random.bernoulli(key, rate, labels.shape), null, labels)


def guided(predict: Callable, labels: jax.Array, null: int, weight: float | jax.Array) -> Callable:
    """predict(x, t, labels) -> predict(x, t), moved from what it says without a label towards what it says with it

    weight 0 asks nothing, 1 is the conditional model, more asks more strongly (1 + w of the paper); a number, or one
    for each example [batch].
    Ho and Salimans 2022, "Classifier-free diffusion guidance", arXiv:2207.12598.
    """
    nulls = jnp.full_like(labels, null)

    def guided_predict(x, t):
        with_label = predict(x, t, labels)
        # A weight that is written as 1 needs no second look; a traced one may be anything.
        if isinstance(weight, (int, float)) and weight == 1:
            return with_label
        return with_label + over_features(weight - 1, with_label) * (with_label - predict(x, t, nulls))

    return guided_predict
