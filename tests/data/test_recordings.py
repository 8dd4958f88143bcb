"""Spoken digits from their zip file, tones that are made up."""

import zipfile

import numpy as np
import pytest

import jann.data
from jann.data import recordings

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def test_spoken_digits_are_the_published_ones(real_data):
    dataset = jann.data.load("spoken_digits")
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split["label"]) for split in splits] == [2400, 300, 300] and dataset.speakers == SPEAKERS
    for split in splits:
        pairs = np.bincount(split["label"] * 6 + split["speaker"], minlength=60)
        assert (pairs == len(split["label"]) // 60).all(), "every speaker says every digit equally often"
        beyond = np.arange(split["audio"].shape[1]) >= split["length"][:, None]
        assert (split["audio"][beyond] == 0).all() and split["audio"].dtype == np.int16
    lengths = np.concatenate([split["length"] for split in splits]) / 8000
    np.testing.assert_allclose([lengths.min(), lengths.max(), lengths.mean()], [0.14, 2.28, 0.44], atol=5e-3)
    # 0_george_0, the first test recording, as SciPy reads it
    assert dataset.test["audio"][0, :3].tolist() == [-1489, -962, -606] and dataset.test["length"][0] == 2384


def test_a_speaker_is_held_out_wholly(real_data):
    dataset = jann.data.load("spoken_digits")
    strict = dataset.hold_out("theo")
    theo = dataset.speakers.index("theo")
    assert (strict.test["speaker"] == theo).all() and np.bincount(strict.test["label"]).tolist() == [50] * 10
    assert len(strict.train["label"]) + len(strict.validation["label"]) == 2500
    assert theo not in strict.train["speaker"] and theo not in strict.validation["speaker"]
    with pytest.raises(ValueError, match="no speaker 'nobody': choose from george, jackson"):
        dataset.hold_out("nobody")


def test_a_truncated_or_altered_zip_is_named(real_data, tmp_path, monkeypatch):
    contents = (real_data / "speech/fsdd_recordings.zip").read_bytes()
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    path = tmp_path / "speech/fsdd_recordings.zip"
    path.parent.mkdir()
    path.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(jann.data.DataError, match="fsdd_recordings.zip cannot be unpacked .*is truncated or altered"):
        jann.data.load("spoken_digits")
    flipped = bytearray(contents)
    flipped[1000] ^= 255
    path.write_bytes(flipped)
    with pytest.raises(jann.data.DataError, match="fsdd_recordings.zip cannot be unpacked"):
        jann.data.load("spoken_digits")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("recordings/0_george_0.wav", b"")
    with pytest.raises(jann.data.DataError, match="holds 1 wav files of sha256 e3b0c442.*expected ddb17656"):
        jann.data.load("spoken_digits")


def test_a_zip_packed_otherwise_is_the_same(real_data, tmp_path):
    """As GitHub packs it: under a folder named after the commit, and with other files."""
    with zipfile.ZipFile(real_data / "speech/fsdd_recordings.zip") as given:
        files = {name: given.read(name) for name in given.namelist()}
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("repository-26eb9aa/README.md", "not sound")
        for name in reversed(files):
            packed.writestr(f"repository-26eb9aa/{name}", files[name])
    found = recordings.wav_files(path, recordings.DIGITS_SHA256)
    assert len(found) == 3000 and found["9_theo_49.wav"] == files["recordings/9_theo_49.wav"]


def test_synthetic_tones_are_always_alike_and_have_their_pitch():
    dataset = jann.data.load("synthetic_tones")
    assert [len(split["label"]) for split in (dataset.train, dataset.validation, dataset.test)] == [600, 100, 200]
    np.testing.assert_array_equal(dataset.test["audio"], recordings.synthetic_tones().test["audio"])
    assert (np.bincount(dataset.test["label"]) == 20).all() and 0 < dataset.train["audio"].max() <= 32767
    # A level tone of the middle speaker has its strongest frequency within 8 % of 180 x 1.4 Hz.
    first = np.flatnonzero((dataset.train["label"] == 0) & (dataset.train["speaker"] == 1))[0]
    sound = dataset.train["audio"][first, : dataset.train["length"][first]]
    hertz = np.fft.rfftfreq(len(sound), 1 / 8000)[np.abs(np.fft.rfft(sound)).argmax()]
    assert abs(hertz / 252 - 1) < 0.1
