"""What is done to logits, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.generation import no_repeated_ngrams, repetition_penalised, warped
from jann.generation.choice import LOWEST, choose

LOGITS = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]]))


def kept(logits):
    return (np.asarray(logits) > LOWEST / 2)[0].tolist()


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"top_k": 2}, [False, True, False, True]),
        ({"top_k": 9}, [True] * 4),
        ({"top_p": 0.35}, [False, True, False, False]),
        ({"top_p": 0.45}, [False, True, False, True]),
        ({"top_p": 0.95}, [True] * 4),
        ({"min_p": 0.6}, [False, True, False, True]),
        ({"min_p": 0.2}, [True] * 4),
        ({"top_k": 3, "top_p": 0.7}, [False, True, False, True]),
        ({"temperature": 0.1, "top_p": 0.8}, [False, True, False, False]),
    ],
)
def test_the_unlikely_is_removed(options, want):
    changed = warped(LOGITS, **options)
    assert kept(changed) == want
    scale = options.get("temperature", 1)
    np.testing.assert_allclose(changed[0][np.array(want)], LOGITS[0][np.array(want)] / scale, rtol=1e-6)


def test_top_p_of_one_removes_nothing():
    logits = jnp.linspace(0.0, -14.0, 50_000)[None]  # of which the last 208 come after 1 in float32
    np.testing.assert_array_equal(warped(logits, top_p=1.0), logits)


def test_repetition_is_divided_or_multiplied_by_its_sign():
    logits = jnp.array([[2.0, -2.0, 3.0, -3.0], [1.0, 1.0, 1.0, 1.0]])
    tokens, lengths = jnp.array([[0, 1, 2], [3, 3, 0]]), jnp.array([2, 2])
    want = [[1.0, -4.0, 3.0, -3.0], [1.0, 1.0, 1.0, 0.5]]
    np.testing.assert_allclose(repetition_penalised(logits, tokens, lengths, 2.0), want)


def test_ngrams_are_not_repeated():
    tokens = jnp.array([[1, 2, 3, 1, 2, 0], [1, 2, 3, 1, 0, 0], [4, 4, 0, 0, 0, 0]])
    lengths = jnp.array([5, 4, 2])
    for n, barred in ((3, [{3}, set(), set()]), (2, [{3}, {2}, {4}]), (1, [{1, 2, 3}, {1, 2, 3}, {4}])):
        left = np.asarray(no_repeated_ngrams(jnp.zeros((3, 6)), tokens, lengths, n))
        assert [set(np.flatnonzero(row < 0).tolist()) for row in left] == barred


def test_without_keys_the_likeliest_with_keys_as_likely_as_it_is():
    assert choose(LOGITS).tolist() == [1]
    keys = jax.random.split(jax.random.key(0), 8000)
    drawn = choose(jnp.tile(LOGITS, (8000, 1)), keys, temperature=0.5)
    want = np.array([0.01, 0.16, 0.04, 0.09]) / 0.3
    counts = np.bincount(drawn, minlength=4)
    assert ((counts - 8000 * want) ** 2 / (8000 * want)).sum() < 16.3  # 99.9 % of chi-squared with 3 degrees
