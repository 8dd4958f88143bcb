"""The shuffle is a permutation of any size, and all permutations are alike to it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from jann.data.shuffle import round_keys, shuffled


def permutations(examples: int, count: int, seed: int) -> np.ndarray:
    """[count, examples], each row of a key of its own"""
    rounds = jax.vmap(lambda key: round_keys(key, examples))(jax.random.split(jax.random.key(seed), count))
    which = jnp.broadcast_to(jnp.arange(count)[:, None], (count, examples))
    positions = jnp.broadcast_to(jnp.arange(examples), (count, examples))
    return np.asarray(jax.jit(shuffled, static_argnums=3)(rounds, which, positions, examples))


@pytest.mark.parametrize("examples", [1, 2, 3, 37, 1000, 1437])
def test_every_example_has_one_place(examples):
    for order in permutations(examples, 5, seed=1):
        np.testing.assert_array_equal(np.sort(order), np.arange(examples))


@pytest.mark.parametrize("examples", [2, 3, 4, 5])
def test_all_permutations_are_equally_likely(examples):
    drawn = permutations(examples, 24_000, seed=2)
    number = {order: i for i, order in enumerate(itertools.permutations(range(examples)))}
    counts = np.bincount([number[tuple(order)] for order in drawn.tolist()], minlength=len(number))
    assert chisquare(counts).pvalue > 1e-3


def test_no_place_and_no_neighbour_is_preferred():
    examples, count = 37, 20_000
    drawn = permutations(examples, count, seed=3)
    table = np.stack([np.bincount(places, minlength=examples) for places in drawn.T])
    expected, freedom = count / examples, (examples - 1) ** 2
    assert abs(((table - expected) ** 2 / expected).sum() - freedom) < 4 * np.sqrt(2 * freedom)
    steps = np.bincount(((drawn[:, 1:] - drawn[:, :-1]) % examples).ravel(), minlength=examples)
    assert steps[0] == 0 and chisquare(steps[1:]).pvalue > 1e-3


def test_as_a_random_permutation_has_one_fixed_point_on_average():
    fixed = (permutations(1437, 2000, seed=4) == np.arange(1437)).sum(1)
    assert abs(fixed.mean() - 1) < 0.1 and abs(fixed.var() - 1) < 0.2
