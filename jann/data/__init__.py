"""Data: batches of arrays and streams as functions of the step, augmentation, and datasets by name."""

from jann.data.augment import mixup, random_crop, random_erase, random_flip
from jann.data.batches import Batches, batches
from jann.data.contiguous import Contiguous, contiguous
from jann.data.datasets import load
from jann.data.files import DataError, MissingData
from jann.data.images import Dataset, Standardise
from jann.data.stream import Stream

__all__ = [
    "Batches",
    "Contiguous",
    "DataError",
    "Dataset",
    "MissingData",
    "Standardise",
    "Stream",
    "batches",
    "contiguous",
    "load",
    "mixup",
    "random_crop",
    "random_erase",
    "random_flip",
]
