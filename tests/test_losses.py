"""Losses against values worked by hand, and what they are minimised by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.losses import quantile_loss


def test_quantile_loss_by_hand():
    outputs = jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    loss = quantile_loss(outputs, jnp.array([2.0, 0.0]), (0.1, 0.5, 0.9))
    # too low by 1: 0.1; right: 0; too high by 1: 0.1. Then too high by 1, 2, 3: 0.9, 1.0, 0.3
    np.testing.assert_allclose(loss, [[0.1, 0.0, 0.1], [0.9, 1.0, 0.3]], rtol=1e-6, atol=1e-7)


def test_the_gradient_vanishes_at_the_samples_quantiles():
    sample = jnp.asarray(np.random.default_rng(0).normal(size=2001), jnp.float32)
    levels = (0.1, 0.5, 0.9)
    grad = jax.grad(lambda q: quantile_loss(jnp.broadcast_to(q, (2001, 3)), sample, levels).sum(-1).mean())
    at = jnp.quantile(sample, jnp.array(levels))
    np.testing.assert_allclose(grad(at), 0, atol=1e-3)
    assert (grad(at + 0.1) > 0.01).all() and (grad(at - 0.1) < -0.01).all()


@pytest.mark.parametrize(
    ("shape", "levels", "message"),
    [((4, 2), (0.1, 0.5, 0.9), "3 quantiles"), ((4, 1), (1.0,), "must lie between 0 and 1")],
)
def test_what_does_not_fit(shape, levels, message):
    with pytest.raises(ValueError, match=message):
        quantile_loss(jnp.zeros(shape), jnp.zeros(4), levels)
