"""Streams of a long text: each reads on, epochs differ where a key is given, a step's batch depends on its number."""

import jax
import jax.numpy as jnp
import numpy as np

import jann
from jann.data import contiguous


def test_with_a_key_each_stream_reads_on_and_each_epoch_begins_elsewhere(key):
    batches = contiguous(np.arange(103), 4, 5, key)
    assert batches.steps_per_epoch == 4
    taken = [jax.jit(batches.take)(step) for step in batches.plan(0, 8)]
    assert [bool(batch["start"]) for batch in taken] == [True, *[False] * 3] * 2
    for batch in taken:
        np.testing.assert_array_equal(batch["label"], (batch["token"] + 1) % 103)
    for before, after in zip(taken, taken[1:], strict=False):
        if not after["start"]:
            np.testing.assert_array_equal(after["token"][:, 0], before["label"][:, -1])
    epochs = [np.concatenate([batch["token"].ravel() for batch in taken[i : i + 4]]) for i in (0, 4)]
    for seen in epochs:
        assert len(np.unique(seen)) == 80, "each token at most once"
    assert set(epochs[0]) != set(epochs[1]), "others are left over"
    other = contiguous(np.arange(103), 4, 5, jax.random.key(1)).take(jnp.int32(0))
    assert (other["token"] != taken[0]["token"]).any()


def test_without_a_key_every_epoch_is_the_same_and_tokens_may_have_features():
    frames = np.random.default_rng(0).normal(size=(23, 2)).astype(np.float32)
    batches = contiguous(frames, 2, 3)
    first, again = batches.take(jnp.int32(1)), batches.take(jnp.int32(1 + batches.steps_per_epoch))
    np.testing.assert_array_equal(first["token"], np.stack([frames[3:6], frames[14:17]]))
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_training_carries_on_bit_for_bit(key):
    """10 + 10 steps see what 20 see: a hash of everything read so far rides in `extra`."""

    def step(train_state, batch):
        extra = train_state.extra * 31 + batch["token"].sum()
        return train_state.replace(step=train_state.step + 1, extra=extra), {"loss": extra.astype(jnp.float32)}

    batches = contiguous(np.arange(200), 2, 9, key)
    start = jann.TrainState(jnp.int32(0), key, {}, {}, jnp.int32(0))
    whole, _ = jann.train(step, batches, start, 20)
    half, _ = jann.train(step, batches, jann.train(step, batches, start, 10)[0], 10)
    assert whole.extra == half.extra
