"""The experiments on text, sound and music at tiny size: they learn, report what the saved models give, and resume."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import mido
import numpy as np
import optax
import pytest
from scipy.io import wavfile
from scipy.special import expit
from scipy.stats import bernoulli

import jann
from experiments import music, shakespeare_gpt, shakespeare_lstm, shakespeare_mamba, speech_digits, stocks, wavenet
from jann.data.text import as_text
from jann.models import LSTM, Dropout, Linear, RecurrentLanguageModel, SequenceClassifier, WaveNet, chain


def cut(dataset, train, test):
    """The first examples of a dataset's splits."""
    sizes = {"train": train, "validation": test, "test": test}
    splits = {name: {k: v[:n] for k, v in getattr(dataset, name).items()} for name, n in sizes.items()}
    return dataclasses.replace(dataset, **splits)


def text_arguments():
    text = as_text("counting", "".join(f"{n % 10},\n" for n in range(1000)))
    model = RecurrentLanguageModel(len(text.vocabulary), 8, 24, dropout=0.1)
    return shakespeare_lstm, text, model, shakespeare_lstm.Recipe(100, 4, 12, learning_rate=0.02, average=0.9)


def speech_arguments():
    model = SequenceClassifier(40, 10, 16, cell="gru", bidirectional=True)
    recipe = speech_digits.Recipe(epochs=8, batch_size=20, learning_rate=0.02, seconds=0.6)
    return speech_digits, cut(jann.data.load("synthetic_tones"), 200, 60), model, recipe


def music_arguments():
    model = chain(Dropout(0.1), LSTM(88, 24), Dropout(0.1), Linear(24, 88))
    recipe = music.Recipe(epochs=8, batch_size=10, learning_rate=0.02)
    return music, cut(jann.data.load("synthetic_canons"), 60, 15), model, recipe


def wavenet_arguments():
    model = WaveNet(256, (1, 2, 4), 8, 16, classes=10)
    recipe = wavenet.Recipe(steps=40, batch_size=4, length=128, learning_rate=0.02)
    return wavenet, cut(jann.data.load("synthetic_tones"), 40, 20), model, recipe


@pytest.mark.parametrize(
    ("experiment", "folder"),
    [
        (music, "music-synthetic_canons"),
        (shakespeare_gpt, "shakespeare_gpt-python_topics"),
        (shakespeare_mamba, "shakespeare_mamba-python_topics"),
        (shakespeare_lstm, "shakespeare_lstm-python_topics"),
        (speech_digits, "speech_digits-synthetic_tones"),
        (stocks, "stocks-google-lstm"),
        (wavenet, "wavenet-synthetic_tones"),
    ],
)
def test_the_default_data_leaves_the_run_folder_of_other_data_alone(experiment, folder, monkeypatch):
    folders = []
    monkeypatch.setattr(experiment, "run", lambda out, *_: folders.append(str(out)))
    experiment.main()
    assert folders == [f"runs/{folder}"]


def run(arguments, out):
    experiment, dataset, model, recipe = arguments
    options = {shakespeare_lstm: {"characters": 60}, wavenet: {"seconds": 0.05}}.get(experiment, {})
    experiment.run(out, dataset, model, recipe, seeds=1, seed=3, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """name -> (run folder, dataset, its row of results.json), each run once."""
    done = {}

    def of(make):
        if make not in done:
            out = tmp_path_factory.mktemp(make.__name__) / "run"
            run(make(), out)
            done[make] = out, make()[1], json.loads((out / "results.json").read_text())["rows"][0]
        return done[make]

    return of


def has_files(out, *names):
    assert [name for name in ("config.json", "results.json", *names) if not (out / name).exists()] == []


def test_text_is_learned_and_measured_over_the_whole_validation_part(finished):
    out, text, row = finished(text_arguments)
    model, params = jann.load(out / "seed-3")
    logits = jax.jit(model)(params, text.validation[:-1])
    want = optax.softmax_cross_entropy_with_integer_labels(logits, text.validation[1:]).mean()
    (loss,) = row["validation_loss"]["seeds"]
    np.testing.assert_allclose(loss, want, rtol=1e-4)
    assert loss < 0.8, "of 2.5 nats for twelve characters alike, two of three of which are certain"
    np.testing.assert_allclose(row["validation_perplexity"]["mean"], np.exp(loss))
    has_files(out, "loss.png", "seed-3/metrics.jsonl")
    samples = (out / "samples.txt").read_text()
    assert all(f"temperature {t}" in samples for t in (0.5, 0.8, 1.0)) and ",\n" in samples


def test_reading_side_by_side_is_nearly_reading_in_one(finished):
    """Exact for one row whatever the length; more rows only lack what came before their start."""
    out, text, _ = finished(text_arguments)
    model, params = jann.load(out / "seed-3")
    tokens = jnp.asarray(text.train[:777])
    logits = jax.jit(model)(params, tokens[:-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[1:])
    np.testing.assert_allclose(shakespeare_lstm.losses_of(model, params, tokens), losses.mean(), rtol=1e-4)
    side_by_side = shakespeare_lstm.losses_of(model, params, tokens, 4)
    assert 0 < abs(side_by_side - losses.mean()) < 0.1


def test_speech_is_learned_and_measured_on_the_test_recordings(finished):
    out, dataset, row = finished(speech_arguments)
    model, params = jann.load(out / "seed-3")
    heard = jax.jit(partial(speech_digits.prepare, rate=8000, seconds=0.6))(dataset.test)
    said = jax.jit(model)(params, heard["frames"], heard["frame_count"]).argmax(-1)
    (accuracy,) = row["test_accuracy"]["seeds"]
    assert np.isclose(accuracy, (said == dataset.test["label"]).mean()) and accuracy > 0.4
    has_files(out, "accuracy.png", "confusion.png", "spectrograms.png")


def test_speech_does_not_hear_loudness_padding_or_what_is_cut(key):
    dataset = cut(jann.data.load("synthetic_tones"), 4, 4)
    prepare = jax.jit(partial(speech_digits.prepare, rate=8000, seconds=0.5))
    heard = jax.device_get(prepare(dataset.test))
    count = heard["frame_count"]
    np.testing.assert_array_equal(count, 1 + (np.minimum(dataset.test["length"], 4000) - 256) // 128)
    for frames, n in zip(heard["frames"], count, strict=True):
        np.testing.assert_allclose([frames[:n].mean(), frames[:n].std()], [0, 1], atol=2e-3)
        assert not frames[n:].any()
    half = prepare({**dataset.test, "audio": dataset.test["audio"] // 2})
    assert np.abs(half["frames"] - heard["frames"]).mean() < 0.01, "but for what rounding does to silence"
    one, other = (prepare(dataset.test, jax.random.fold_in(key, i)) for i in range(2))
    assert np.abs(one["frames"] - other["frames"]).max() > 0.5, "augmented anew with each key"


def test_music_is_learned_and_measured_by_the_published_convention(finished):
    out, dataset, row = finished(music_arguments)
    model, params = jann.load(out / "seed-3")
    rolls = dataset.test["roll"].astype(np.float32)
    chances = expit(np.asarray(jax.jit(model)(params, rolls[:, :-1]), np.float64))
    total = frames = 0
    for roll, chance, length in zip(rolls, chances, dataset.test["length"], strict=True):
        total += -bernoulli.logpmf(roll[1:length], chance[: length - 1]).sum()
        frames += length - 1
    (loss,) = row["test_nll"]["seeds"]
    np.testing.assert_allclose(loss, total / frames, rtol=1e-4)
    assert loss < 15, "of 61 nats for 88 coins; of 13 or so for how often each key sounds"
    history = [json.loads(line) for line in (out / "seed-3/metrics.jsonl").read_text().splitlines()]
    assert len(history) == 4
    has_files(out, "loss.png", "sample.png")
    assert mido.MidiFile(out / "sample.mid").length == pytest.approx(64 / dataset.steps_per_second)
    rate, sound = wavfile.read(out / "sample.wav")
    assert rate == 16_000 and np.abs(sound).max() > 1000


def test_what_is_played_follows_the_models_chances(key):
    """A model without memory of anything: keys sound as often as its biases say."""
    model = chain(Linear(88, 88))
    chances = np.linspace(0.05, 0.95, 88)
    params = [{"weight": jnp.zeros((88, 88)), "bias": jnp.log(chances / (1 - chances))}]
    drawn = np.asarray(music.play(model, params, jnp.zeros((1, 88)), 1000, key, 1.0))
    assert set(np.unique(drawn)) == {0, 1}
    assert (np.abs(drawn.mean(0) - chances) < 4 * np.sqrt(chances * (1 - chances) / 1000)).all()


def test_wavenet_is_measured_and_heard(finished):
    out, dataset, row = finished(wavenet_arguments)
    model, params = jann.load(out / "seed-3")
    batch = jax.jit(partial(wavenet.windowed, length=128))(dataset.test)
    before = np.pad(dataset.test["audio"], ((0, 0), (1, 0)))[:, :128]
    np.testing.assert_array_equal(batch["inputs"], jann.data.mu_law_encode(before))
    np.testing.assert_array_equal(batch["targets"], jann.data.mu_law_encode(dataset.test["audio"][:, :128]))
    logits = jax.jit(model)(params, batch["inputs"], batch["label"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
    (loss,) = row["test_nll"]["seeds"]
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-4)
    has_files(out, "loss.png", "samples.png")
    sounds = [wavfile.read(file) for file in sorted(out.glob("sample_*.wav"))]
    assert len(sounds) == 10 and {(rate, len(sound)) for rate, sound in sounds} == {(8000, 400)}


def test_wavenet_windows_lie_in_the_recording(key):
    audio = np.zeros((50, 40), np.int16)
    audio[:, :30] = 1000 * np.arange(1, 31)
    batch = {"audio": audio, "length": np.full(50, 30, np.int32), "label": np.zeros(50, np.int32)}
    window = jax.jit(partial(wavenet.windowed, length=8))
    cut = window(batch, key)
    firsts = np.asarray(cut["targets"])[:, 0]
    assert cut["valid"].all() and len(set(firsts.tolist())) > 10
    levels = np.asarray(jann.data.mu_law_encode(audio[0]))
    for row in np.asarray(cut["targets"]):
        start = int(np.flatnonzero(levels == row[0])[0])
        np.testing.assert_array_equal(row, levels[start : start + 8])
    short = window({**batch, "length": np.full(50, 5, np.int32)}, key)
    assert short["valid"].sum(-1).tolist() == [5] * 50


@pytest.mark.parametrize("make", [text_arguments, music_arguments])
def test_interrupted_goes_on_to_the_same_end(make, finished, tmp_path, monkeypatch, capsys):
    whole = (finished(make)[0] / "results.json").read_bytes()
    fit, out = jann.fit, tmp_path / "run"

    def fit_half(step, batches, train_state, n, **options):
        return fit(step, batches, train_state, n // 2, **options)

    monkeypatch.setattr(jann, "fit", fit_half)
    with pytest.raises(SystemExit, match="130"):
        run(make(), out)
    assert not (out / "results.json").exists() and "the same command goes on" in capsys.readouterr().out
    monkeypatch.setattr(jann, "fit", fit)
    run(make(), out)
    assert (out / "results.json").read_bytes() == whole
