"""Labelled images from their canonical files: digits, MNIST, Fashion-MNIST, CIFAR-10."""

import hashlib
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.data.files import altered, find, places, unpacked

Split = dict[str, np.ndarray]


@dataclass(frozen=True)
class Standardise:
    """(image / scale − mean) / deviation by channel: {"image": uint8[..., channels], ...} -> float32 image.

    The rest of the batch is left as it is. Takes a key, which it does not use, so that it serves as
    `transform=`; two of equal numbers are equal, so that nothing compiles again for the second.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    scale: float

    def __call__(self, batch: dict[str, Any], key: jax.Array | None = None) -> dict[str, Any]:
        image = jnp.asarray(batch["image"]).astype(jnp.float32)
        by_channel = (1,) * (image.ndim - 1) + (-1,)
        mean = np.asarray(self.mean, np.float32).reshape(by_channel)
        deviation = np.asarray(self.deviation, np.float32).reshape(by_channel)
        return {**batch, "image": (image / self.scale - mean) / deviation}


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images, three splits of {"image": uint8[n, height, width, channels], "label": int32[n]}.

    Where each pixel has a class, labels are int32[n, height, width].

    image / scale lies in [0, 1]; `mean` and `deviation` are those of train's image / scale, a channel each.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def standardise(self) -> Standardise:
        """The function of a batch that brings its images to mean 0 and variance 1; serves as `transform=`."""
        return Standardise(self.mean, self.deviation, self.scale)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{split} {len(getattr(self, split)['label']):,}" for split in ("train", "validation", "test")
        )
        shape = " × ".join(map(str, self.train["image"].shape[1:]))
        return f"Dataset({self.name!r}: {sizes}; images {shape}; {len(self.classes)} classes)"


def digits() -> Dataset:
    """Handwritten digits, 8 × 8 × 1, values 0..16 (scikit-learn): 1,257 train, 180 validation, 360 test.

    Split at random, always alike, with the same shares of the classes in each part.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    loaded = load_digits()
    images = loaded.images.astype(np.uint8)[..., None]
    rows = np.arange(len(images))
    rest, test = train_test_split(rows, test_size=360, stratify=loaded.target, random_state=0)
    train, validation = train_test_split(rest, test_size=180, stratify=loaded.target[rest], random_state=0)
    splits = [split(images[rows], loaded.target[rows]) for rows in (train, validation, test)]
    return with_statistics("digits", *splits, DIGITS, scale=16.0)


def mnist() -> Dataset:
    """Handwritten digits, 28 × 28 × 1: 55,000 train, 5,000 validation (the file's last), 10,000 test.

    LeCun, Bottou, Bengio and Haffner 1998, Proceedings of the IEEE 86(11).
    """
    return idx_dataset("mnist", "https://ossci-datasets.s3.amazonaws.com/mnist/", DIGITS)


def fashion_mnist() -> Dataset:
    """Pictures of clothes, 28 × 28 × 1: 55,000 train, 5,000 validation (the file's last), 10,000 test.

    Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    return idx_dataset("fashion_mnist", url, CLOTHES)


def cifar10() -> Dataset:
    """Photographs, 32 × 32 × 3: 45,000 train, 5,000 validation (the last of the files), 10,000 test.

    Read from cifar10/cifar-10-batches-bin/*.bin where that folder is, else from
    cifar10/cifar-10-binary.tar.gz. Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    *parts, test = [records(contents, origin, 10_000) for contents, origin in cifar10_contents()]
    whole = {key: np.concatenate([part[key] for part in parts]) for key in test}
    return with_statistics("cifar10", *held_out(whole, 5_000), test, OBJECTS)


def cifar10_subset() -> Dataset:
    """A balanced fifth of CIFAR-10, 32 × 32 × 3: 9,000 train, 1,000 validation (the last), 2,000 test.

    Published nowhere in this form: 1,000 training and 200 test images of each class of cyizhuo/CIFAR-10-dataset.
    """

    def part(file: str, count: int) -> Split:
        path = find(f"cifar10/{file}", source=SUBSET_SOURCE)
        return records(unpacked(path, CONTENTS["cifar10"][file]), path, count)

    whole, test = part("cifar10_train10k.bin.gz", 10_000), part("cifar10_test2k.bin.gz", 2_000)
    return with_statistics("cifar10_subset", *held_out(whole, 1_000), test, OBJECTS)


DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# sha256 of the unpacked files.
CONTENTS = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "cifar10": {
        "cifar10_train10k.bin.gz": "a7ea1b94bec5e0537fe10ea76ba5912932e147c0fbd0c357b0c00f7b831b3919",
        "cifar10_test2k.bin.gz": "3917334eff615fbcda7e047fad0603c9976efee66f0697d1ec86867459aa8c65",
    },
}

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # as published on the page of the archive
SUBSET_SOURCE = "a choice of images from github.com/cyizhuo/CIFAR-10-dataset; the whole, cifar10, can be"
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def idx_dataset(name: str, url: str, classes: tuple[str, ...]) -> Dataset:
    """A dataset in the four files of MNIST, its last 5,000 training examples for validation."""

    def numbers(file: str, header: int) -> np.ndarray:
        contents = unpacked(find(f"{name}/{file}", url + file), CONTENTS[name][file])
        return np.frombuffer(contents, np.uint8, offset=header)  # the checksum settles what the header says

    def part(prefix: str) -> Split:
        images = numbers(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
        return split(images, numbers(f"{prefix}-labels-idx1-ubyte.gz", 8))

    return with_statistics(name, *held_out(part("train"), 5_000), part("t10k"), classes)


def cifar10_contents() -> list[tuple[bytes, Path]]:
    """The six binary files of CIFAR-10, test last, extracted or out of the archive; each with its origin."""
    if any((folder / "cifar10" / CIFAR10_FOLDER).is_dir() for folder in places()):
        whole = f"all are in {CIFAR10_URL}"
        paths = [find(f"cifar10/{CIFAR10_FOLDER}/{name}", source=whole) for name in CIFAR10_FILES]
        return [(path.read_bytes(), path) for path in paths]
    archive = find("cifar10/cifar-10-binary.tar.gz", CIFAR10_URL, f"md5:{CIFAR10_MD5}")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != CIFAR10_MD5:
        raise altered(archive, f"has md5 {found}", CIFAR10_MD5)
    with tarfile.open(archive) as files:
        return [(files.extractfile(f"{CIFAR10_FOLDER}/{name}").read(), archive) for name in CIFAR10_FILES]


def records(contents: bytes, origin: Path, count: int) -> Split:
    """Images and labels of `count` records of CIFAR-10's binary form: a label, 32 × 32 red, green, blue."""
    if len(contents) != count * 3073:
        raise altered(origin, f"has {len(contents):,} bytes", f"{count * 3073:,} ({count:,} images)")
    table = np.frombuffer(contents, np.uint8).reshape(count, 3073)
    if table[:, 0].max() > 9:
        raise altered(origin, f"has a label {table[:, 0].max()}", "labels 0 to 9")
    images = table[:, 1:].reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)
    return split(np.ascontiguousarray(images), table[:, 0])


def split(images: np.ndarray, labels: np.ndarray) -> Split:
    """{"image": images, "label": int32 labels}."""
    return {"image": images, "label": labels.astype(np.int32)}


def held_out(whole: Split, count: int) -> tuple[Split, Split]:
    """All but the last `count` examples, and those."""
    return {k: v[:-count] for k, v in whole.items()}, {k: v[-count:] for k, v in whole.items()}


def with_statistics(
    name: str, train: Split, validation: Split, test: Split, classes: tuple[str, ...], scale: float = 255.0
) -> Dataset:
    """The dataset with its channels' mean and deviation, exactly: from counts of the 256 values."""
    values = np.arange(256) / scale
    mean, deviation = [], []
    for channel in range(train["image"].shape[-1]):
        # In pieces, because bincount makes int64 of what it is given.
        pieces = np.array_split(train["image"][..., channel], 64)
        counts = sum(np.bincount(piece.ravel(), minlength=256) for piece in pieces)
        shares = counts / counts.sum()
        mean.append(float(shares @ values))
        deviation.append(math.sqrt(shares @ (values - mean[-1]) ** 2))
    return Dataset(name, train, validation, test, classes, scale, tuple(mean), tuple(deviation))
