"""Scores of segments against their definitions, counted pair by pair."""

import itertools

import numpy as np
import pytest

from jann.analysis import intersection_over_union, rand_f_score


def pair_by_pair(segments, truth):
    """Of pairs of pixels, each with itself too: those together in both, over the mean of those together in each"""
    pixels = [(s or -i - 1, t) for i, (s, t) in enumerate(zip(segments.ravel(), truth.ravel(), strict=True)) if t]
    both = ours = theirs = 0
    for (s, t), (u, v) in itertools.product(pixels, repeat=2):
        both += s == u and t == v
        ours += s == u
        theirs += t == v
    return both / (0.5 * ours + 0.5 * theirs)


@pytest.mark.parametrize("seed", range(4))
def test_rand_score_counts_pairs(seed):
    random = np.random.default_rng(seed)
    segments, truth = random.integers(0, 4, (2, 6, 7))
    assert rand_f_score(segments, truth) == pytest.approx(pair_by_pair(segments, truth))


def test_rand_score_of_plain_cases():
    truth = np.repeat([1, 2, 0], 10)
    assert rand_f_score(truth, truth) == 1
    assert rand_f_score(np.where(truth, truth + 5, 7), truth) == 1  # names do not matter, nor what is where truth is 0
    assert rand_f_score(np.ones(30, int), truth) == pytest.approx(200 / (0.5 * 400 + 0.5 * 200))  # all merged
    assert rand_f_score(np.zeros(30, int), truth) == pytest.approx(20 / (0.5 * 20 + 0.5 * 200))  # all split
    with pytest.raises(ValueError, match="truth is 0 everywhere"):
        rand_f_score(truth, 0 * truth)
    with pytest.raises(ValueError, match=r"segments \[30\] and truth \[29\] differ in shape"):
        rand_f_score(truth, truth[1:])


def test_intersection_over_union_is_what_it_says():
    a, b = np.array([1, 1, 1, 0, 0], bool), np.array([0, 1, 1, 1, 0], bool)
    none = a & ~a
    assert [intersection_over_union(*pair) for pair in ((a, b), (a, ~a), (none, none))] == [0.5, 0, 1]
    with pytest.raises(ValueError, match=r"found \[5\] and truth \[2\] differ in shape"):
        intersection_over_union(a, b[:2])
