"""Photographs of people, as many of each: the Olivetti faces, and made-up ones for where there are none."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np

from jann.data.files import altered, find


@dataclass(frozen=True, eq=False, repr=False)
class Faces:
    """images uint8[people, photographs, height, width, 1]: people are numbers, without a split of their own."""

    name: str
    images: np.ndarray

    def __repr__(self) -> str:
        people, photographs, height, width, _ = self.images.shape
        return f"Faces({self.name!r}: {people} people, {photographs} photographs of each, {height} × {width})"


def olivetti() -> Faces:
    """Ten photographs each of 40 people, 64 × 64, taken by AT&T Laboratories Cambridge from 1992 to 1994.

    The ORL faces of Samaria and Harter 1994 (WACV), as Roweis cut and shrank them.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = find("faces/olivettifaces.mat", OLIVETTI_URL)
    try:
        table = loadmat(io.BytesIO(path.read_bytes()), variable_names=["faces"])["faces"]
        contents = np.ascontiguousarray(table.T).astype(np.uint8)
    except (MatReadError, ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise altered(path, f"cannot be read ({error})", "a MATLAB 5 file with a variable faces") from error
    found = hashlib.sha256(contents.tobytes()).hexdigest()
    if found != OLIVETTI_SHA256:
        raise altered(path, f"has pictures of sha256 {found}", OLIVETTI_SHA256)
    # One picture a row, column after column.
    return Faces("olivetti", contents.reshape(40, 10, 64, 64).swapaxes(2, 3)[..., None])


OLIVETTI_URL = "https://cs.nyu.edu/~roweis/data/olivettifaces.mat"
OLIVETTI_SHA256 = "b119468c2f13775df12d3950e7c96644811647a6e10d30617777f245bf9b2f8b"  # of the pictures, one by one


def synthetic_faces(people: int = 40, photographs: int = 10, size: int = 32, seed: int = 0) -> Faces:
    """Drawn faces, no photographs: always alike, uint8[people, photographs, size, size, 1].

    A person is the shape and the tone of a head, hair, brows, eyes, nose and mouth. From one picture to the next
    differ place, turn and distance, the side that light comes from, how far eyes and mouth are open, and noise.
    """
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(people):
        person = {name: random.uniform(low, high) for name, (low, high) in FEATURES.items()}
        drawn.append([picture(random, person, size) for _ in range(photographs)])
    return Faces("synthetic_faces", np.array(drawn)[..., None])


# What tells people apart, between these bounds; lengths in half widths of the picture, tones from 0 to 1.
FEATURES = {
    "width": (0.50, 0.66), "height": (0.68, 0.84), "skin": (0.55, 0.90), "hair": (0.05, 0.50), "hairline": (0.30, 0.62),
    "eyes_apart": (0.20, 0.29), "eyes_up": (0.05, 0.20), "eye_width": (0.08, 0.14), "iris": (0.05, 0.35),
    "brow_up": (0.11, 0.18), "brow_thick": (0.02, 0.06), "brow_tilt": (-0.2, 0.2), "nose_long": (0.15, 0.32),
    "nose_wide": (0.04, 0.10), "mouth_down": (0.38, 0.50), "mouth_wide": (0.14, 0.28), "lips": (0.30, 0.60),
}  # fmt: skip


def picture(random: np.random.Generator, person: dict[str, float], size: int) -> np.ndarray:
    """One picture of a person, who is a value for each of FEATURES -> uint8[size, size]"""
    turn, scale = random.normal(0, 0.07), random.uniform(0.92, 1.08)
    right, down = random.normal(0, 0.04, 2)
    light, from_above = random.normal(0, 0.25), random.normal(0, 0.10)
    eyes_open, mouth_open = random.uniform(0.25, 0.6), random.uniform(0.02, 0.08)
    looks, profile = random.normal(0, 0.02), random.normal(0, 0.05)

    at = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(at - down, at - right, indexing="ij")
    x, y = (np.cos(turn) * x + np.sin(turn) * y) / scale, (np.cos(turn) * y - np.sin(turn) * x) / scale
    edge = 2 / size  # a pixel, over which each shape fades

    def ellipse(across, up, width, height, tilt=0.0):
        u, v = x - across, y + up + tilt * (x - across)
        away = np.sqrt((u / width) ** 2 + (v / height) ** 2) - 1
        return 1 / (1 + np.exp(np.clip(away * min(width, height) / (edge / 3), -30, 30)))

    image = np.full((size, size), 0.5)

    def paint(shape, tone):
        image[:] += shape * (tone - image)

    p = person
    paint(ellipse(0, 0.06, p["width"] + 0.07, p["height"] + 0.04), p["hair"])
    face = ellipse(0, 0, p["width"], p["height"])
    paint(face / (1 + np.exp(np.clip(-(y + p["hairline"]) / (edge / 3), -30, 30))), p["skin"])
    for side in (-1, 1):
        middle, up = profile + side * p["eyes_apart"], p["eyes_up"]
        paint(ellipse(middle, up, p["eye_width"], eyes_open * p["eye_width"]), 0.95)
        paint(ellipse(middle + looks, up, 0.4 * p["eye_width"], 0.9 * eyes_open * p["eye_width"]), p["iris"])
        tilt = side * p["brow_tilt"]
        paint(ellipse(middle, up + p["brow_up"], 1.3 * p["eye_width"], p["brow_thick"], tilt), p["hair"])
    paint(ellipse(1.4 * profile, -p["nose_long"] / 2, p["nose_wide"], p["nose_long"] / 2), 0.85 * p["skin"])
    paint(ellipse(profile, -p["mouth_down"], p["mouth_wide"], 0.03 + mouth_open), p["lips"] * p["skin"])
    image = image * (1 + light * x - from_above * y) + random.normal(0, 0.03, image.shape)
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
