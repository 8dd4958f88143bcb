"""Images with boxes around what is on them: blood cells, and digits scattered over a canvas."""

import io
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import dataclass

import numpy as np

from jann.data.files import DataError, altered, find
from jann.data.images import Standardise

BCCD_SOURCE = "BCCD, github.com/Shenggan/BCCD_Dataset, its folder BCCD as a zip file"
Part = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class Boxes:
    """Images with boxes, three splits of {"image", "box", "label"}.

    image:  uint8[n, height, width, channels]
    box:    float32[n, most, 4]: top, left, bottom, right in pixels, 0 where there is none
    label:  int32[n, most]: the class of each box, −1 where there is none
    """

    name: str
    train: Part
    validation: Part
    test: Part
    classes: tuple[str, ...]

    @property
    def standardise(self) -> Standardise:
        """Brings the images of a batch to mean 0 and variance 1 by channel."""
        images = self.train["image"]
        mean, deviation = (of(images, (0, 1, 2), dtype=np.float64) / 255 for of in (np.mean, np.std))
        return Standardise(tuple(mean.tolist()), tuple(deviation.tolist()), 255.0)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{name} {len(part['label'])} with {(part['label'] >= 0).sum():,} boxes"
            for name, part in (("train", self.train), ("validation", self.validation), ("test", self.test))
        )
        shape = " × ".join(map(str, self.train["image"].shape[1:]))
        return f"Boxes({self.name!r}: {counts}; images {shape}; {len(self.classes)} classes)"


def padded_boxes(boxes: list[np.ndarray], labels: list[np.ndarray], most: int) -> Part:
    """boxes [count, 4] and labels [count] of each image -> {"box": [n, most, 4], "label": [n, most]}"""
    box, label = np.zeros((len(boxes), most, 4), np.float32), np.full((len(boxes), most), -1, np.int32)
    for i, (here, what) in enumerate(zip(boxes, labels, strict=True)):
        box[i, : len(here)], label[i, : len(what)] = here, what
    return {"box": box, "label": label}


def bccd(height: int = 192, width: int = 256) -> Boxes:
    """Blood under a microscope: 205 train, 87 validation, 72 test, made smaller to height × width pixels.

    Red and white cells and platelets; some red ones have no box. Read from detection/BCCD.zip, of BCCD/Annotations,
    JPEGImages and ImageSets.
    """
    from PIL import Image

    path = find("detection/BCCD.zip", source=BCCD_SOURCE)
    classes = ("RBC", "WBC", "Platelets")
    parts = {}
    try:
        with zipfile.ZipFile(path) as packed:
            for part in ("train", "val", "test"):
                images, boxes, labels = [], [], []
                for name in packed.read(f"BCCD/ImageSets/Main/{part}.txt").decode().split():
                    picture = Image.open(io.BytesIO(packed.read(f"BCCD/JPEGImages/{name}.jpg"))).convert("RGB")
                    across, down = width / picture.width, height / picture.height
                    found = ET.fromstring(packed.read(f"BCCD/Annotations/{name}.xml")).findall("object")
                    corners = [[float(each.find(f"bndbox/{side}").text) for side in ("ymin", "xmin", "ymax", "xmax")]
                               for each in found]  # fmt: skip
                    images.append(np.asarray(picture.resize((width, height), Image.Resampling.BOX)))
                    boxes.append(np.array(corners, np.float32).reshape(-1, 4) * [down, across, down, across])
                    labels.append(np.array([classes.index(each.find("name").text) for each in found], np.int32))
                parts[part] = np.stack(images), boxes, labels
    except (zipfile.BadZipFile, EOFError, KeyError, OSError, ValueError, AttributeError, ET.ParseError) as error:
        raise altered(path, f"cannot be read ({error})", "a zip file of BCCD") from error
    counts = {part: sum(map(len, labels)) for part, (_, _, labels) in parts.items()}
    if sum(counts.values()) != 4888:
        raise DataError(f"{path} has {sum(counts.values())} boxes, 4888 are published: copy it again")
    most = max(len(each) for _, _, labels in parts.values() for each in labels)
    whole = [{"image": images, **padded_boxes(boxes, labels, most)} for images, boxes, labels in parts.values()]
    return Boxes("bccd", *whole, classes)


def scattered_digits(seed: int = 0) -> Boxes:
    """Three to seven of scikit-learn's digits on a canvas of 64 × 64 with noise: 256 train, 64 validation, 128 test.

    The digits of each split are others. They are drawn at twice their size, and do not cover each other's middle.
    """
    from sklearn.datasets import load_digits

    digits, random = load_digits(), np.random.default_rng(seed)
    order = random.permutation(len(digits.target))

    def drawn(rows):
        canvas, boxes, labels = np.zeros((64, 64)), [], []
        for _ in range(random.integers(3, 8)):
            row, corner = random.choice(rows), random.integers(0, 49, 2)
            if any(np.abs(corner - box[:2]).max() < 14 for box in boxes):
                continue
            picture = np.kron(digits.images[row] / 16, np.ones((2, 2)))
            spot = canvas[corner[0] : corner[0] + 16, corner[1] : corner[1] + 16]
            np.maximum(spot, picture, out=spot)
            inside = np.argwhere(picture > 0.1)
            boxes.append(np.concatenate([corner + inside.min(0), corner + inside.max(0) + 1]))
            labels.append(digits.target[row])
        canvas = np.clip(0.8 * canvas + 0.1 + 0.08 * random.normal(size=canvas.shape), 0, 1)
        return (255 * canvas).astype(np.uint8)[..., None], np.array(boxes, np.float32), np.array(labels, np.int32)

    def part(rows, n):
        images, boxes, labels = zip(*(drawn(rows) for _ in range(n)), strict=True)
        return {"image": np.stack(images), **padded_boxes(boxes, labels, 7)}

    splits = [part(rows, n) for rows, n in zip(np.split(order, [1200, 1400]), (256, 64, 128), strict=True)]
    return Boxes("scattered_digits", *splits, tuple("0123456789"))
