"""The Fréchet distance against its closed form for Gaussians."""

import numpy as np
import pytest

from jann.analysis import frechet_distance


def with_moments(rng, n, mean, covariance):
    """n examples whose mean and covariance are exactly these."""
    white = rng.normal(size=(n, len(mean)))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_commuting_covariances_give_the_distance_of_deviations():
    """With covariances of the same axes it is |μ₁ − μ₂|² + Σ (σ₁ − σ₂)²."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    first, second = np.array([0.5, 1.0, 2.0, 3.0]), np.array([2.0, 1.5, 0.1, 3.0])
    shift = np.array([1.0, -2.0, 0.5, 0.0])
    a = with_moments(rng, 50, np.zeros(4), axes * first**2 @ axes.T)
    b = with_moments(rng, 70, shift, axes * second**2 @ axes.T)
    wanted = (shift**2).sum() + ((first - second) ** 2).sum()
    assert np.isclose(frechet_distance(a, b), wanted, rtol=1e-10)
    assert np.isclose(frechet_distance(b, a), wanted, rtol=1e-10)


def test_other_covariances_agree_with_scipy():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5)) + 1
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shared = sqrtm(first @ second).real
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * shared)
    assert np.isclose(frechet_distance(a, b), wanted, rtol=1e-8)


def test_fewer_examples_than_features():
    """Both covariances are singular; a shift of all is then all there is."""
    a = np.random.default_rng(2).normal(size=(6, 20))
    assert frechet_distance(a, a) < 1e-6
    assert np.isclose(frechet_distance(a, a + 3.0), 20 * 9.0, atol=1e-5)
    assert np.isclose(frechet_distance([[0.0], [2.0]], [[1.0], [5.0]]), 4.0 + (2**0.5 - 8**0.5) ** 2)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 4)), r"got \[3, 2\] and \[3, 4\]"),
        (np.zeros((1, 2)), np.zeros((3, 2)), "two examples at least, got 1 and 3"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), "must be finite"),
    ],
)
def test_bad_features(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)
