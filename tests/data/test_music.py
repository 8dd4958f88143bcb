"""Piano rolls, MIDI files and their sound."""

import sys

import mido
import numpy as np
import pytest

import jann.data
from jann.data import midi, music


def test_jsb_chorales_are_the_published_ones(real_data):
    dataset = jann.data.load("jsb_chorales")
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split["length"]) for split in splits] == [229, 76, 77]
    assert [split["length"].sum() for split in splits] == [13_807, 4_602, 4_725]
    for split in splits:
        sounding = np.flatnonzero(split["roll"].any((0, 1))) + music.LOWEST
        assert sounding.min() >= 36 and sounding.max() <= 96, "voices of a choir"
        beyond = np.arange(split["roll"].shape[1]) >= split["length"][:, None]
        assert not split["roll"][beyond].any() and split["roll"].max() == 1
        voices = split["roll"].sum() / split["length"].sum()
        assert 3.8 < voices < 4


def test_an_altered_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    (tmp_path / "music").mkdir()
    (tmp_path / "music/JSB_Chorales.mat").write_bytes(b"half")
    with pytest.raises(jann.data.DataError, match="JSB_Chorales.mat has sha256 .*expected ac0e608527cc"):
        jann.data.load("jsb_chorales")


def test_synthetic_canons_follow_themselves():
    dataset = jann.data.load("synthetic_canons")
    np.testing.assert_array_equal(dataset.train["roll"], music.synthetic_canons().train["roll"])
    assert [len(split["length"]) for split in (dataset.train, dataset.validation, dataset.test)] == [200, 40, 40]
    for piece, length in zip(dataset.test["roll"][:5], dataset.test["length"], strict=False):
        melody = [88 - 1 - row[::-1].argmax() for row in piece[:length]]  # the highest key
        for voice in (1, 2):
            for time in range(4 * voice, length):
                assert piece[time, melody[time - 4 * voice] - 12 * voice] == 1


def test_notes_held_are_one():
    roll = np.zeros((5, 88), np.uint8)
    roll[0:2, 39] = 1
    roll[3:5, 39] = 1
    roll[1, 43] = 1
    assert midi.notes(roll) == [(0, 2, 39), (1, 2, 43), (3, 5, 39)]
    with pytest.raises(ValueError, match=r"a piano roll is \[time, 88\], got shape \[5, 87\]"):
        midi.notes(roll[:, :87])


def test_midi_read_back_is_the_roll(tmp_path):
    roll = (np.random.default_rng(0).random((40, 88)) < 0.1).astype(np.uint8)
    path = tmp_path / "piece.mid"
    jann.data.write_midi(path, roll, steps_per_second=4)
    file = mido.MidiFile(path)
    again, seconds, sounding = np.zeros_like(roll), 0.0, set()
    for message in file:
        before, seconds = seconds, seconds + message.time
        for note in sounding:
            again[round(4 * before) : round(4 * seconds), note - 21] = 1
        if message.type == "note_on":
            sounding.add(message.note)
        elif message.type == "note_off":
            sounding.remove(message.note)
    np.testing.assert_array_equal(again, roll)
    assert not sounding and np.isclose(file.length, 10)


def test_without_mido_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(ImportError, match=r"pip install 'jann\[music\]'"):
        jann.data.write_midi(tmp_path / "piece.mid", np.zeros((3, 88)))


def test_the_sound_has_the_notes_pitch():
    roll = np.zeros((2, 88), np.uint8)
    roll[:, 69 - music.LOWEST] = 1  # A4, 440 Hz
    sound = jann.data.synthesise(roll, steps_per_second=2, rate=8000)
    assert np.abs(sound).max() < 1 and len(sound) == 12_000
    hertz = np.fft.rfftfreq(8000, 1 / 8000)[np.abs(np.fft.rfft(sound[:8000])).argmax()]
    assert abs(hertz - 440) <= 1
    assert np.abs(sound[-1000:]).max() < 1e-6
