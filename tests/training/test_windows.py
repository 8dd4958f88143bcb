"""Truncated backpropagation through time: the carry is carried, gradients stop where a window begins."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.data import contiguous
from jann.models import RecurrentLanguageModel
from jann.training import windowed

MODEL = RecurrentLanguageModel(vocab=5, embed=4, hidden=6)
TOKENS = np.random.default_rng(0).integers(0, 5, 2 * 13 + 1)


def nats(params, batch, state=None):
    logits, state = MODEL.apply(params, batch["token"], state=state)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), state


def started(key, optimizer):
    return jann.TrainState.start(key, MODEL.init(key), optimizer, {"carry": MODEL.carry(2)})


def test_one_window_is_plain_backpropagation(key):
    batches = contiguous(TOKENS, 2, 12)
    batch = batches.take(batches.plan(0, 1)[0])
    params = MODEL.init(key)
    whole = jax.grad(lambda p: nats(p, batch)[0])(params)
    grads, _ = jax.grad(windowed(MODEL), has_aux=True)(params, batch, key, {"carry": MODEL.carry(2)})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), grads, whole)


def test_windows_carry_on_and_gradients_stop(key):
    batches = contiguous(TOKENS, 2, 4)
    first, second = (batches.take(n) for n in batches.plan(0, 2))
    params, loss = MODEL.init(key), windowed(MODEL)
    _, (_, extra) = loss(params, first, key, {"carry": MODEL.carry(2)})
    _, state = nats(params, first)
    jax.tree.map(np.testing.assert_array_equal, extra["carry"], state)
    got = jax.grad(lambda p: loss(p, second, key, {"carry": nats(p, first)[1]})[0])(params)
    want = jax.grad(lambda p: nats(p, second, state)[0])(params)
    through = jax.grad(lambda p: nats(p, second, nats(p, first)[1])[0])(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, want)
    differences = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), want, through)
    assert max(jax.tree.leaves(differences)) > 1e-4
    anew, _ = loss(params, first, key, extra)  # where streams begin again, nothing is carried
    np.testing.assert_allclose(anew, nats(params, first)[0], rtol=1e-6)


def test_training_is_a_scan_that_resumes(key):
    optimizer = optax.adam(1e-2)
    step, batches = jann.make_step(windowed(MODEL), optimizer), contiguous(TOKENS, 2, 4)
    run = jax.jit(lambda state: jann.train(step, batches, state, 4))
    half, first = run(started(key, optimizer))
    again, second = run(half)
    losses = []
    for state, metrics in jann.chunks(step, batches, started(key, optimizer), 8, every=4):
        losses.append(metrics["loss"])
        end = jax.device_get((state.params, state.extra))
    jax.tree.map(np.testing.assert_array_equal, (again.params, again.extra), end)
    np.testing.assert_array_equal(np.concatenate(losses), np.concatenate([first["loss"], second["loss"]]))
    assert second["loss"][-3:].mean() < first["loss"][:3].mean()


def test_streams_are_contiguous():
    batches = contiguous(np.arange(23), 2, 3)
    assert batches.steps_per_epoch == 3
    seen = [batches.take(n) for n in batches.plan(0, 4)]
    assert [bool(batch["start"]) for batch in seen] == [True, False, False, True]
    tokens = np.concatenate([batch["token"] for batch in seen[:3]], axis=1)
    np.testing.assert_array_equal(tokens, [np.arange(9), 11 + np.arange(9)])
    for batch in seen:
        np.testing.assert_array_equal(batch["label"], batch["token"] + 1)


def test_bad_input(key):
    with pytest.raises(ValueError, match="23 tokens are too few for 4 streams of 9"):
        contiguous(np.arange(23), 4, 8)
    with pytest.raises(ValueError, match="at least 1"):
        contiguous(np.arange(23), 0, 8)
    batch = contiguous(TOKENS, 2, 4).take(jnp.int32(0))
    with pytest.raises(ValueError, match=r'needs extra=\{"carry": model.carry'):
        windowed(MODEL)(MODEL.init(key), batch, key)
