"""Piano rolls made audible: MIDI files, and a plain synthesiser."""

from pathlib import Path

import numpy as np

from jann.data.music import KEYS, LOWEST


def write_midi(path: str | Path, roll: np.ndarray, steps_per_second: float = 2.0, velocity: int = 80) -> None:
    """Writes roll[time, 88] of 0 and 1 as a MIDI file; a key held over several steps is one note.

    Raises ImportError without mido, ValueError for a roll of another shape.
    """
    try:
        import mido
    except ImportError as error:
        raise ImportError("MIDI files need mido, which is not installed: pip install 'jann[music]'") from error
    ticks = 480  # a step, of which MIDI takes it that it is a quarter note
    messages = [mido.MetaMessage("set_tempo", tempo=round(1e6 / steps_per_second))]
    events = sorted(
        (time, kind, key) for start, end, key in notes(roll) for time, kind, key in ((start, 1, key), (end, 0, key))
    )  # at one time, notes end before others begin
    before = 0
    for time, begins, key in events:
        kind = "note_on" if begins else "note_off"
        note = LOWEST + key
        messages.append(mido.Message(kind, note=note, velocity=velocity * begins, time=ticks * (time - before)))
        before = time
    messages.append(mido.MetaMessage("end_of_track", time=ticks * (len(roll) - before)))
    file = mido.MidiFile(ticks_per_beat=ticks)
    file.tracks.append(mido.MidiTrack(messages))
    file.save(path)


def synthesise(roll: np.ndarray, steps_per_second: float = 2.0, rate: int = 16_000) -> np.ndarray:
    """roll[time, 88] -> its sound, float32[samples] within −1 and 1: each note a few overtones that die away."""
    sound = np.zeros(int(rate * (len(roll) / steps_per_second + 0.5)), np.float32)
    for start, end, key in notes(roll):
        hertz = 440 * 2 ** ((LOWEST + key - 69) / 12)
        at = np.arange(int(rate * ((end - start) / steps_per_second + 0.2))) / rate
        held = (end - start) / steps_per_second
        loudness = np.minimum(at / 0.01, 1) * np.exp(-1.5 * at) * np.clip((held + 0.2 - at) / 0.2, 0, 1)
        overtones = range(1, max(2, min(6, int(rate / 2 / hertz))))
        wave = sum(np.sin(2 * np.pi * n * hertz * at) / n**1.5 for n in overtones)
        begin = int(rate * start / steps_per_second)
        sound[begin : begin + len(at)] += (loudness * wave)[: len(sound) - begin]
    return sound / max(1e-9, 1.05 * np.abs(sound).max())


def notes(roll: np.ndarray) -> list[tuple[int, int, int]]:
    """roll[time, 88] -> (first step, step after the last, key) of each note, in order. Raises ValueError."""
    roll = np.asarray(roll)
    if roll.ndim != 2 or roll.shape[1] != KEYS or len(roll) == 0:
        raise ValueError(f"a piano roll is [time, {KEYS}], got shape {list(roll.shape)}")
    change = np.diff(np.pad(roll.astype(bool).astype(np.int8), ((1, 1), (0, 0))), axis=0)
    starts, ends = (np.argwhere(change.T == sign) for sign in (1, -1))  # by key, then in time, so they pair
    return sorted((int(a), int(b), int(key)) for (key, a), (_, b) in zip(starts, ends, strict=True))
