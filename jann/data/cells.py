"""Images with a class for each pixel: membranes between cells, seen by a microscope or drawn."""

import hashlib
import io
import zipfile

import numpy as np

from jann.data.files import altered, find
from jann.data.images import Dataset, with_statistics

ISBI_SOURCE = "ISBI 2012 challenge: membranes in electron microscopy, Arganda-Carreras et al. 2015"
# Of the pixels of all images, then of all labels.
ISBI_SHA256 = "481f2adbf9b000c65a9042cf7492f160d59839c84efaf01cfc3c94176d501bf0"
PARTS = ("membrane", "cell")


def isbi2012() -> Dataset:
    """Slices of the larva of a fruit fly, 512 × 512 × 1: 20 train, 4 validation, 6 test; neighbours in one volume.

    label[n, 512, 512] is 1 in cells and 0 on membranes. Of the 30 slices that were published with their labels; the
    challenge's own test slices have none. Arganda-Carreras et al. 2015, Frontiers in Neuroanatomy 9. Read from
    segmentation/isbi2012_membrane.zip, of isbi2012_membrane/image/N.png and label/N.png.
    """
    from PIL import Image

    path = find("segmentation/isbi2012_membrane.zip", source=ISBI_SOURCE)
    try:
        with zipfile.ZipFile(path) as packed:
            pictures = {
                part: np.stack([
                    np.asarray(Image.open(io.BytesIO(packed.read(f"isbi2012_membrane/{part}/{n}.png"))).convert("L"))
                    for n in range(30)
                ])
                for part in ("image", "label")
            }  # fmt: skip
    except (zipfile.BadZipFile, EOFError, KeyError, OSError) as error:
        raise altered(path, f"cannot be read ({error})", "a zip file of 30 images and labels") from error
    found = hashlib.sha256(pictures["image"].tobytes() + pictures["label"].tobytes()).hexdigest()
    if found != ISBI_SHA256:
        raise altered(path, f"has pixels of sha256 {found}", ISBI_SHA256)
    whole = {"image": pictures["image"][..., None], "label": (pictures["label"] > 127).astype(np.int32)}
    splits = [{name: array[rows] for name, array in whole.items()} for rows in
              (slice(0, 20), slice(20, 24), slice(24, 30))]  # fmt: skip
    return with_statistics("isbi2012", *splits, PARTS)


def synthetic_cells(seed: int = 0) -> Dataset:
    """Drawn cells with membranes of 2 to 3 pixels, blurred, with noise, 96 × 96 × 1: 24 train, 8 validation, 8 test.

    Some cells are as dark as membranes, in their middle, so that a threshold does not tell the two apart.
    """
    from scipy import ndimage, spatial

    random, size = np.random.default_rng(seed), 96
    grid = np.stack(np.meshgrid(*2 * [np.arange(size)], indexing="ij"), -1).astype(float)

    def drawn():
        seeds = 16 * np.stack(np.meshgrid(*2 * [np.arange(-1, 8)], indexing="ij"), -1).reshape(-1, 2)
        seeds = seeds + random.uniform(-5, 5, seeds.shape)
        shifts = ndimage.gaussian_filter(random.normal(size=(size, size, 2)), (8, 8, 0)) * 60
        distance, nearest = spatial.cKDTree(seeds).query(grid + shifts, k=2)
        label = (distance[..., 1] - distance[..., 0] > 3).astype(np.int32)
        brightness = random.uniform(0.55, 0.8, len(seeds))[nearest[..., 0]]
        dark = (random.random(len(seeds)) < 0.3)[nearest[..., 0]] & (distance[..., 0] < 3)
        picture = np.where(label == 1, np.where(dark, 0.25, brightness), 0.25)
        picture = ndimage.gaussian_filter(picture, 0.8) + 0.08 * random.normal(size=(size, size))
        return (255 * np.clip(picture, 0, 1)).astype(np.uint8)[..., None], label

    def split(n):
        images, labels = zip(*(drawn() for _ in range(n)), strict=True)
        return {"image": np.stack(images), "label": np.stack(labels)}

    return with_statistics("synthetic_cells", split(24), split(8), split(8), PARTS)
