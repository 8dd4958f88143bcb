"""Recordings of different lengths with a class each: spoken digits, and made-up tones for where there are none."""

import hashlib
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jann.data.audio import read_wav
from jann.data.files import altered, find

Split = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class Recordings:
    """Labelled sound, three splits of {"audio": int16[n, time], "length", "label", "speaker": int32[n]}.

    Recording i is audio[i, :length[i]]; zeros follow. label and speaker are places in `classes` and `speakers`.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    speakers: tuple[str, ...]
    rate: int

    def hold_out(self, speaker: str) -> "Recordings":
        """The same recordings with all of one speaker as the test, and what was the test of the others in train.

        Raises ValueError for an unknown speaker.
        """
        if speaker not in self.speakers:
            raise ValueError(f"{self.name} has no speaker {speaker!r}: choose from {', '.join(self.speakers)}")
        number = self.speakers.index(speaker)

        def joined(*splits: Split, held_out: bool = False) -> Split:
            whole = {name: np.concatenate([split[name] for split in splits]) for name in splits[0]}
            rows = (whole["speaker"] == number) == held_out
            return {name: values[rows] for name, values in whole.items()}

        return replace(
            self,
            name=f"{self.name} without {speaker}",
            train=joined(self.train, self.test),
            validation=joined(self.validation),
            test=joined(self.train, self.validation, self.test, held_out=True),
        )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(getattr(self, name)['label']):,}" for name in ("train", "validation", "test"))
        longest = self.train["audio"].shape[1] / self.rate
        return (
            f"Recordings({self.name!r}: {sizes}; up to {longest:.2f} s at {self.rate} Hz; "
            f"{len(self.classes)} classes, {len(self.speakers)} speakers)"
        )


def spoken_digits() -> Recordings:
    """English digits by six speakers at 8 kHz: 2,400 train, 300 validation (numbers 5 to 9), 300 test (0 to 4).

    The Free Spoken Digit Dataset, Jackson et al., with its authors' test set, from a zip file of `recordings/*.wav`.
    """
    path = find("speech/fsdd_recordings.zip", DIGITS_URL)
    sounds, facts = [], []
    for name, contents in wav_files(path, DIGITS_SHA256).items():
        digit, speaker, number = re.fullmatch(r"(\d)_(\w+)_(\d+)\.wav", name).groups()
        sounds.append(read_wav(contents, 8000, f"{name} in {path}"))
        facts.append((int(digit), speaker, int(number)))
    labels, names, numbers = (np.array(column) for column in zip(*facts, strict=True))
    speakers, speaker = np.unique(names, return_inverse=True)
    whole = padded(sounds, labels, speaker)
    parts = [numbers >= 10, (numbers >= 5) & (numbers < 10), numbers < 5]
    splits = [{key: values[rows] for key, values in whole.items()} for rows in parts]
    return Recordings("spoken_digits", *splits, tuple("0123456789"), tuple(speakers.tolist()), 8000)


# The commit whose recordings the checksum is of; GitHub packs it afresh, so the zip file itself has no checksum.
DIGITS_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e8.zip"
DIGITS_SHA256 = "ddb17656a0bca4c5ddace082be188ca630516dc2ef1110afe3c4e9cc71173de4"


def synthetic_tones(seed: int = 0) -> Recordings:
    """Made-up sound at 8 kHz, no recordings: 600 train, 100 validation, 200 test in ten classes.

    A class is one of five courses of pitch (level, rising, falling, up and down, down and up) in one of two timbres.
    Three "speakers" differ in pitch; length (0.25 to 0.6 s), loudness, beginning and noise are drawn at random.
    """
    random = np.random.default_rng(seed)
    labels, speakers = np.arange(900) % 10, np.arange(900) // 10 % 3
    sounds = [tone(random, label, 180 * 1.4**speaker, 8000) for label, speaker in zip(labels, speakers, strict=True)]
    whole = padded(sounds, labels, speakers)
    splits = [{key: values[rows] for key, values in whole.items()} for rows in np.split(np.arange(900), [600, 700])]
    classes = tuple(f"{course} {timbre}" for timbre in ("clear", "hollow") for course in COURSES)
    return Recordings("synthetic_tones", *splits, classes, ("low", "middle", "high"), 8000)


# Pitch at the beginning, the middle and the end.
COURSES = {
    "level": (0, 0, 0),
    "rising": (-1, 0, 1),
    "falling": (1, 0, -1),
    "up-down": (-1, 1, -1),
    "down-up": (1, -1, 1),
}


def tone(random: np.random.Generator, label: int, hertz: float, rate: int) -> np.ndarray:
    """One made-up recording of a class of `synthetic_tones` -> int16[time]"""
    samples = int(rate * random.uniform(0.2, 0.45))
    at = np.linspace(0, 1, samples)
    course = np.interp(at, (0, 0.5, 1), list(COURSES.values())[label % 5])
    pitch = hertz * random.uniform(0.92, 1.08) * 2 ** (0.35 * course)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    overtones = range(1, 8, 1 if label < 5 else 2)
    wave = sum(np.sin(n * phase + random.uniform(0, 2 * np.pi)) / n for n in overtones)
    wave = wave / np.abs(wave).max() * np.sin(np.pi * at) ** 0.5 * random.uniform(0.3, 0.9)
    silence = (int(rate * random.uniform(0.0, 0.08)), int(rate * random.uniform(0.05, 0.07)))
    wave = np.pad(wave, silence)
    return (32767 * np.clip(wave + 0.01 * random.normal(size=wave.shape), -1, 1)).astype(np.int16)


def padded(sounds: list[np.ndarray], labels: np.ndarray, speakers: np.ndarray) -> Split:
    """Sounds of different lengths as one array, zeros after each."""
    lengths = np.array([len(sound) for sound in sounds], np.int32)
    audio = np.zeros((len(sounds), lengths.max()), np.int16)
    for row, sound in zip(audio, sounds, strict=True):
        row[: len(sound)] = sound
    return {"audio": audio, "length": lengths, "label": labels.astype(np.int32), "speaker": speakers.astype(np.int32)}


def wav_files(path: Path, sha256: str) -> dict[str, bytes]:
    """The wav files of a zip file by their name without folders, in order of name.

    sha256 is that of their contents, one after another: the zip file's own depends on who packed it. Raises DataError
    where it cannot be unpacked or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            names = sorted((Path(name).name, name) for name in packed.namelist() if name.endswith(".wav"))
            files = {short: packed.read(name) for short, name in names}
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise altered(path, f"cannot be unpacked ({error})", f"wav files of sha256 {sha256}") from error
    found = hashlib.sha256(b"".join(files.values())).hexdigest()
    if found != sha256:
        raise altered(path, f"holds {len(files)} wav files of sha256 {found}", sha256)
    return files
