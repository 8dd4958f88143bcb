"""The best spans against a search through all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.generation import best_spans


def searched(logits, longest, count, allowed):
    """logits[time, 2] -> the best (log p, first, last), by looking at every one"""
    kept = np.where(allowed[:, None], np.asarray(logits, np.float64), -np.inf)
    log_p = kept - np.log(np.exp(kept).sum(0))
    found = [
        (log_p[first, 0] + log_p[last, 1], first, last)
        for first in range(len(logits))
        for last in range(first, min(first + longest, len(logits)))
        if allowed[first : last + 1].all()
    ]
    return sorted(found, reverse=True)[:count]


@pytest.mark.parametrize("longest, count", [(1, 3), (4, 6), (12, 9), (30, 2)])
def test_they_are_those_of_a_search(key, longest, count):
    logits = 2 * jax.random.normal(key, (5, 12, 2))
    allowed = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.8, (5, 12)).at[:, 3:6].set(True)
    found = jax.jit(best_spans, static_argnums=(1, 2))(logits, longest, count, allowed)
    for row in range(5):
        wanted = searched(logits[row], longest, count, np.asarray(allowed[row]))
        assert len(wanted) == count
        begin, end, log_p = (np.asarray(each[row]) for each in found)
        np.testing.assert_array_equal(np.stack([begin, end], 1), [span[1:] for span in wanted])
        np.testing.assert_allclose(log_p, [span[0] for span in wanted], rtol=1e-5)


def test_without_a_mask_and_with_more_leading_axes(key):
    logits = jax.random.normal(key, (2, 3, 7, 2)).astype(jnp.bfloat16)
    found = best_spans(logits, longest=3, count=2)
    for row in np.ndindex(2, 3):
        wanted = searched(np.asarray(logits[row], np.float32), 3, 2, np.ones(7, bool))
        np.testing.assert_array_equal(found[0][row], [first for _, first, _ in wanted])
        np.testing.assert_allclose(found[2][row], [log_p for log_p, _, _ in wanted], rtol=1e-5)


def test_beyond_what_there_is_nothing_is_likely_and_too_many_are_refused(key):
    allowed = jnp.array([False, True, False])
    begin, end, log_p = best_spans(jax.random.normal(key, (3, 2)), count=2, allowed=allowed)
    assert (int(begin[0]), int(end[0]), float(log_p[0])) == (1, 1, 0.0) and log_p[1] == -jnp.inf
    with pytest.raises(ValueError, match="longest=2, count=7: 3 tokens have at least 1 and 6 spans"):
        best_spans(jnp.zeros((3, 2)), longest=2, count=7)
    with pytest.raises(ValueError, match="longest=0"):
        best_spans(jnp.zeros((3, 2)), longest=0)


def test_logits_of_something_else_are_refused():
    for wrong in (jnp.zeros((4, 3)), jnp.zeros(2)):
        with pytest.raises(ValueError, match=r"\[\.\.\., time, 2\] wanted, of where an answer begins and ends"):
            best_spans(wrong)
    with pytest.raises(ValueError, match=r"allowed \[4\] for logits \[3, 4, 2\]: \[3, 4\] wanted"):
        best_spans(jnp.zeros((3, 4, 2)), allowed=jnp.ones(4, bool))
