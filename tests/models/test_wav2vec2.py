"""wav2vec 2.0: padding, masked frames, seeds side by side, adapters, learning to spell, and what does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.models import Wav2Vec2

MODEL = Wav2Vec2(5, (4, 6), (4, 3), (3, 2), conv_norm="layer", embed=8, layers=2, heads=2, hidden=10, position_window=4,
                 position_groups=2, norm_first=True, mask_token=True)  # fmt: skip
AUDIO = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
LENGTHS = np.array([40, 21, 29])


@pytest.fixture
def params(drawn):
    return drawn(MODEL)


@pytest.mark.parametrize("norm_first", [True, False])
def test_padding_changes_nothing(params, norm_first):
    model = dataclasses.replace(MODEL, norm_first=norm_first)
    together = model(params, AUDIO, LENGTHS)
    assert model.frames(LENGTHS).tolist() == [6, 2, 4] and model.frames(model.smallest) == 1 and model.smallest == 10
    assert model.frames(9) == 0 and model.frames(jnp.array([2, 10])).tolist() == [0, 1]
    for row, samples in enumerate(LENGTHS):
        alone = model(params, AUDIO[row, :samples])
        assert len(alone) == model.frames(int(samples))
        np.testing.assert_allclose(together[row, : len(alone)], alone, rtol=1e-4, atol=1e-5)
    louder = np.where(np.arange(40) < LENGTHS[:, None], AUDIO, 100)
    there = np.arange(6) < np.array([6, 2, 4])[:, None]
    np.testing.assert_allclose(model(params, louder, LENGTHS)[there], together[there], rtol=1e-4, atol=1e-5)
    assert jnp.isfinite(model(params, AUDIO, np.array([40, 9, 0]))).all()


def test_no_type_is_converted_unasked(params):
    """JAX's strictest promotion of types, and lengths of 8 bits, in all that stands between a wave and its loss"""
    labels, waves = np.array([[1, 2], [3, 0], [1, 0]]), jnp.asarray(AUDIO)

    def heard(lengths, labels):
        logits = MODEL(params, jann.data.speech_waveform(waves, 16_000, lengths), lengths)
        return logits, jann.losses.ctc_loss(logits, labels, MODEL.frames(lengths))

    want, loss = heard(LENGTHS, labels)
    with jax.numpy_dtype_promotion("strict"):
        for narrow in (np.uint8, np.int8):
            found = jax.jit(heard)(LENGTHS.astype(narrow), labels.astype(narrow))
            np.testing.assert_allclose(found[0], want, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found[1], loss, rtol=1e-4)


def test_what_the_published_sizes_are():
    base = Wav2Vec2(mask_token=True)
    assert base.smallest == 400 and base.frames(16_000) == 49
    assert jann.count(base) == 94_396_320  # as transformers counts Wav2Vec2ForCTC


def test_masked_frames_are_not_heard(params):
    masked = np.zeros((3, 6), bool)
    masked[:, 0] = True
    other = AUDIO.copy()
    other[:, :6] += 1  # of which the first frame alone hears
    plain, changed = MODEL(params, AUDIO), MODEL(params, other)
    assert np.abs(plain - changed).max() > 1e-3
    np.testing.assert_allclose(
        MODEL(params, AUDIO, masked=masked), MODEL(params, other, masked=masked), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="masked frames need a vector .* mask_token=True"):
        without = {name: part for name, part in params.items() if name != "masked"}
        dataclasses.replace(MODEL, mask_token=False)(without, AUDIO, masked=masked)


def test_listed_blocks_seeds_side_by_side_and_noise(params):
    whole = MODEL(params, AUDIO, LENGTHS)
    listed = jann.core.listed(MODEL, params)
    np.testing.assert_allclose(MODEL(listed, AUDIO, LENGTHS), whole, rtol=1e-4, atol=1e-5)
    keys = jax.random.split(jax.random.key(1), 2)
    several = jax.vmap(MODEL.init)(keys)
    one = MODEL(MODEL.init(keys[1]), AUDIO)
    np.testing.assert_allclose(jax.vmap(MODEL, (0, None))(several, AUDIO)[1], one, rtol=1e-4, atol=1e-5)
    noisy = dataclasses.replace(MODEL, dropout=0.5)
    assert np.abs(noisy(params, AUDIO, LENGTHS, key=jax.random.key(0)) - whole).max() > 1e-3


def test_the_start_of_the_positions_kernel_is_as_long_as_what_is_drawn():
    start = dataclasses.replace(MODEL, embed=64).init(jax.random.key(0))["positions"]
    drawn = jnp.sqrt(jnp.square(start["weight"]).sum((1, 2)))
    np.testing.assert_allclose(start["scale"], drawn, rtol=0.1)


def test_adapters_start_as_nothing(params):
    low = jann.adapt.low_rank(MODEL, params, rank=2, targets="query|value", key=jax.random.key(2))
    np.testing.assert_allclose(MODEL(low, AUDIO, LENGTHS), MODEL(params, AUDIO, LENGTHS), rtol=1e-5, atol=1e-6)
    train, _ = jann.adapt.trainable(low)
    assert len(jann.flatten(train)) == 4


def test_it_learns_to_spell_what_it_hears():
    """Two tones of different height in every order, by the library's own objective."""
    time = np.arange(20)
    tones = {1: np.sin(1.5 * time), 2: np.sin(0.3 * time)}
    label = np.array([[1, 2, -1], [2, 1, -1], [1, 2, 1], [2, 1, 2]])
    wave = np.zeros((4, 60), np.float32)
    for row, letters in enumerate(label):
        for i, letter in enumerate(letters[letters > 0]):
            wave[row, 20 * i : 20 * i + 20] = tones[letter]
    batch = {"wave": wave, "length": np.array([40, 40, 60, 60]), "label": label}
    model = dataclasses.replace(MODEL, vocab=3, mask_token=False)

    def criterion(logits, batch):
        frames = model.frames(batch["length"])
        return {"loss": jann.losses.ctc_loss(logits, batch["label"], frames, model.blank)}

    optimizer = optax.adam(1e-2)
    step = jax.jit(jann.make_step(jann.objective(model, criterion, ("wave", "length")), optimizer))
    state = jann.start(model, optimizer, jax.random.key(0))
    for _ in range(100):
        state, metrics = step(state, batch)
    assert metrics["loss"] < 0.1
    logits = model(state.params, wave, batch["length"])
    said = jann.data.ctc_decode(logits, model.blank, model.frames(batch["length"]))
    assert said == [[1, 2], [2, 1], [1, 2, 1], [2, 1, 2]]


def test_what_does_not_fit_is_named(params):
    with pytest.raises(ValueError, match=r"audio\[..., samples\] of at least 10 samples wanted, got \[3, 9\]"):
        MODEL(params, AUDIO[:, :9])
    with pytest.raises(TypeError, match="audio is int16: jann.data.speech_waveform"):
        MODEL(params, AUDIO.astype(np.int16))
    with pytest.raises(ValueError, match=r"lengths \[2\] for audio \[3, 40\]: \[3\] wanted"):
        MODEL(params, AUDIO, LENGTHS[:2])
    with pytest.raises(ValueError, match="a window and a stride for each convolution, got channels=.4,."):
        dataclasses.replace(MODEL, channels=(4,))
    with pytest.raises(ValueError, match="conv_norm must be group or layer, got 'batch'"):
        dataclasses.replace(MODEL, conv_norm="batch")
    with pytest.raises(ValueError, match="heads=3 must divide embed=8"):
        dataclasses.replace(MODEL, heads=3).spec()
