"""Verification scores against scikit-learn, brute force, and what normal distributions have in closed form."""

import numpy as np
import pytest
import sklearn.metrics
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.stats import norm

from jann.analysis import roc_curve, verification_scores


def pairs(rng, n, apart, step=None):
    """n pairs, 1 in 5 of the same, whose scores are `apart` higher; rounded to `step`, so that some are equal"""
    same = np.arange(n) % 5 == 0
    scores = rng.normal(size=n) + apart * same
    return scores if step is None else np.round(scores / step) * step, same


@pytest.mark.parametrize("step", [None, 0.5])
def test_as_scikit_learn_and_by_brute_force(step):
    scores, same = pairs(np.random.default_rng(0), 300, 1.5, step)
    wrong, right, _ = sklearn.metrics.roc_curve(same, scores, drop_intermediate=False)
    found = roc_curve(scores, same)
    np.testing.assert_allclose(found, (wrong, right))
    measured = verification_scores(scores, same, false_accepts=0.05)
    np.testing.assert_allclose(measured["roc_area"], sklearn.metrics.roc_auc_score(same, scores))
    between = interp1d(wrong, right)
    equal = brentq(lambda x: 1 - x - between(x), 0, 1)
    np.testing.assert_allclose(measured["equal_error_rate"], equal, atol=1e-9)
    allowed = [t for t in np.unique(scores) if (scores[~same] >= t).mean() <= 0.05]
    np.testing.assert_allclose(measured["true_accept_rate"], max((scores[same] >= t).mean() for t in allowed))


def test_of_normal_scores():
    """Of N(0, 1) and N(d, 1) the area is Φ(d / √2), the equal error rate Φ(−d / 2), the rate at α 1 − Φ(z_α − d)."""
    quantiles = norm.ppf((np.arange(4000) + 0.5) / 4000)
    scores, same = np.concatenate([quantiles, quantiles + 2]), np.repeat([False, True], 4000)
    found = verification_scores(scores, same, 0.01)
    wanted = {"roc_area": norm.cdf(2 / np.sqrt(2)), "equal_error_rate": norm.cdf(-1),
              "true_accept_rate": norm.sf(norm.isf(0.01) - 2)}  # fmt: skip
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=2e-3)


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [([3, 2, 1, 0], (1, 0, 1)), ([0, 1, 2, 3], (0, 1, 0)), ([1, 1, 1, 1], (0.5, 0.5, 0))],
)
def test_the_best_the_worst_and_none(scores, wanted):
    found = verification_scores(np.array(scores), np.array([True, True, False, False]))
    np.testing.assert_allclose(tuple(found.values()), wanted)


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        (np.zeros(3), np.ones(3), "3 of 3 pairs are of the same"),
        (np.zeros(3), np.zeros(3), "0 of 3 pairs are of the same"),
        (np.zeros((3, 3)), np.eye(3), r"\[pairs\] wanted"),
        (np.zeros(4), np.eye(2)[0], r"scores \[4\] and same \[2\]"),
        (np.array([0, np.nan]), np.array([0, 1]), "1 of 2 scores are not finite"),
    ],
)
def test_what_does_not_fit(scores, same, message):
    with pytest.raises(ValueError, match=message):
        verification_scores(scores, same)


def test_a_rate_is_a_share():
    with pytest.raises(ValueError, match="false_accepts=1.5"):
        verification_scores(np.array([0.0, 1.0]), np.array([False, True]), 1.5)
