"""Windows of a text: anywhere, labels one token on, a step's batch a function of the key and its number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.data import whole_windows, windows


def test_windows_begin_anywhere_and_labels_are_the_tokens_that_follow(key):
    batches = windows(np.arange(20), 64, 4, key)
    plan = batches.plan(0, 50)
    assert plan.min() == 0 and plan.max() == 15  # label 19 is the last token
    counts = np.bincount(plan.ravel(), minlength=16)
    assert ((counts - 200) ** 2 / 200).sum() < 37.7  # chi-squared, 15 degrees of freedom, one in a thousand
    batch = jax.jit(batches.take)(plan[3])
    np.testing.assert_array_equal(batch["token"], np.asarray(plan[3])[:, None] + np.arange(4))
    np.testing.assert_array_equal(batch["label"], batch["token"] + 1)


def test_a_batch_depends_on_the_key_and_the_step_alone(key):
    batches = windows(np.arange(50), 3, 5, key)
    np.testing.assert_array_equal(batches.plan(7, 2), batches.plan(0, 9)[7:])
    assert (windows(np.arange(50), 3, 5, jax.random.key(1)).plan(0, 9) != batches.plan(0, 9)).any()


def test_whole_windows_hold_every_transition_once():
    arrays = whole_windows(np.arange(12), 4)
    there = np.asarray(arrays["weight"]) > 0
    np.testing.assert_array_equal(arrays["token"][there], np.arange(11))
    np.testing.assert_array_equal(arrays["label"][there], np.arange(1, 12))
    assert there.shape == (3, 4) and there.sum() == 11


def test_bad_sizes_are_refused(key):
    with pytest.raises(ValueError, match="4 tokens are too few for a window of 4"):
        windows(jnp.arange(4), 2, 4, key)
    with pytest.raises(ValueError, match="size=0"):
        windows(jnp.arange(9), 0, 4, key)
    with pytest.raises(TypeError, match="jax.random.key"):
        windows(jnp.arange(9), 2, 4, 3)
    with pytest.raises(ValueError, match="there must be two tokens"):
        whole_windows(jnp.arange(1), 4)


def test_training_on_windows_learns_what_follows(key):
    """A cycle of letters: after a few steps the next one is sure."""
    model = jann.models.GPT2(vocab=3, positions=6, embed=12, layers=1, heads=2)
    step = jann.make_step(jann.objective(model, jann.language, "token"), optax.adam(3e-2))
    data = windows(np.arange(60) % 3, 8, 6, key)
    state, _ = jann.train(step, data, jann.start(model, optax.adam(3e-2), key), 60)
    unseen = whole_windows(np.arange(31) % 3, 6)
    found = jann.evaluate(jann.measure(model, jann.language, "token"), state.params, unseen)
    assert found["loss"] < 0.05 and found["accuracy"] == 1
