"""Sines and cosines of places and times."""

import jax.numpy as jnp
import numpy as np
import pytest

from jann.layers import sinusoidal


def test_by_hand():
    got = sinusoidal(jnp.array([0.0, 2.0]), 4)
    np.testing.assert_allclose(got[0], [0, 0, 1, 1])
    np.testing.assert_allclose(got[1], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)], rtol=1e-5)
    # as in the paper on diffusion: the lowest frequency is 1 / longest itself
    ends = sinusoidal(3, 4, longest=100.0, inclusive=True)
    np.testing.assert_allclose(ends, [np.sin(3), np.sin(0.03), np.cos(3), np.cos(0.03)], rtol=1e-5)


def test_a_shift_is_a_rotation_of_each_pair():
    """What makes them positions: sin and cos of a place k further on are linear in those of the place."""
    here, there = sinusoidal(jnp.array([5.0, 9.0]), 8)
    angles = 4 * 10_000.0 ** (-np.arange(4) / 4)
    np.testing.assert_allclose(there[:4], here[:4] * np.cos(angles) + here[4:] * np.sin(angles), atol=1e-5)


@pytest.mark.parametrize(("features", "inclusive"), [(5, False), (2, True), (0, False)])
def test_features_come_in_pairs(features, inclusive):
    with pytest.raises(ValueError, match=f"features={features}"):
        sinusoidal(1.0, features, inclusive=inclusive)
