"""Texts, and the windows that recurrent networks read them in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann.data
from jann.data.text import as_text


def test_tiny_shakespeare_is_the_published_one(real_data):
    text = jann.data.load("tiny_shakespeare")
    assert (len(text.train), len(text.validation), len(text.vocabulary)) == (1_003_854, 111_540, 65)
    assert text.decode(text.train[:14]) == "First Citizen:"
    assert text.decode(text.validation[:19]) == "?\n\nGREMIO:\nGood mor"  # where nanoGPT's split begins


def test_python_topics_are_in_every_python():
    text = jann.data.load("python_topics")
    whole = text.decode(np.concatenate([text.train, text.validation]))
    assert len(whole) > 300_000 and '"assert" statement' in whole
    assert "".join(text.vocabulary) == "".join(sorted(set(whole)))
    assert abs(len(text.train) / len(whole) - 0.9) < 1e-5
    np.testing.assert_array_equal(text.encode(whole[:1000]), text.train[:1000])


def test_a_character_without_a_number_is_named():
    text = as_text("abc", "abcabcabca")
    assert (text.train.tolist(), text.validation.tolist()) == ([0, 1, 2, 0, 1, 2, 0, 1, 2], [0])
    with pytest.raises(ValueError, match=r"abc has no character 'x' \(place 2\); it has 'abc'"):
        text.encode("abx")


def test_an_altered_text_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/tinyshakespeare_input.txt").write_text("First Citizen")
    with pytest.raises(jann.data.DataError, match="tinyshakespeare_input.txt has sha256 .*, expected 86c4e6aa"):
        jann.data.load("tiny_shakespeare")


def test_each_row_reads_on_and_an_epoch_reads_everything(key):
    tokens = np.arange(103)
    windows = jann.data.windows(tokens, size=4, length=5, key=key)
    assert windows.steps_per_epoch == 5
    batches = [windows(step) for step in range(10)]
    assert [bool(batch["fresh"]) for batch in batches] == [True, *[False] * 4] * 2
    for batch in batches:
        np.testing.assert_array_equal(batch["targets"], (batch["inputs"] + 1) % 103)
    for before, after in zip(batches, batches[1:], strict=False):
        if not after["fresh"]:
            np.testing.assert_array_equal(after["inputs"][:, 0], before["targets"][:, -1])
    epochs = [np.concatenate([batch["inputs"].ravel() for batch in batches[i : i + 5]]) for i in (0, 5)]
    for seen in epochs:
        assert len(np.unique(seen)) == 100, "each token at most once"
    assert epochs[0][0] != epochs[1][0], "each epoch begins elsewhere"


def test_windows_are_a_function_of_the_step_alone(key):
    windows = jann.data.windows(np.arange(1000) % 7, 3, 10, key)
    planned = jax.jit(lambda windows, step: jax.lax.map(windows.take, windows.plan(step, 4)))(windows, 31)
    for i in range(4):
        single = windows(31 + i)
        jax.tree.map(lambda many, one, i=i: np.testing.assert_array_equal(many[i], one), planned, single)
    other = jann.data.windows(np.arange(1000) % 7, 3, 10, jax.random.key(1))
    assert (other(0)["inputs"] != windows(0)["inputs"]).any()


def test_training_carries_on_bit_for_bit(key):
    """10 + 10 steps see what 20 see: the sum of everything read so far rides in `extra`."""

    def step(train_state, batch):
        extra = train_state.extra * 31 + batch["inputs"].sum()
        return train_state.replace(step=train_state.step + 1, extra=extra), {"loss": extra.astype(jnp.float32)}

    windows = jann.data.windows(np.arange(200), 2, 9, key)
    start = jann.TrainState(jnp.int32(0), key, {}, {}, jnp.int32(0))
    whole, _ = jann.train(step, windows, start, 20)
    half, _ = jann.train(step, windows, jann.train(step, windows, start, 10)[0], 10)
    assert whole.extra == half.extra


@pytest.mark.parametrize(
    ("tokens", "size", "length", "message"),
    [
        (np.arange(10), 3, 4, "3 windows of 4 need 12 tokens, there are 10"),
        (np.arange(10.0), 1, 2, r"tokens must be integers \[n\], got float32\[10\]"),
        (np.zeros((2, 5), int), 1, 2, r"tokens must be integers \[n\]"),
        (np.arange(10), 0, 2, "both must be at least 1"),
    ],
)
def test_windows_of_what_cannot_be_read(tokens, size, length, message, key):
    with pytest.raises(ValueError, match=message):
        jann.data.windows(tokens, size, length, key)
