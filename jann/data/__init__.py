"""Data: batches of arrays and streams as functions of the step, augmentation, and datasets by name."""

from jann.data.augment import mixup, random_crop, random_erase, random_flip
from jann.data.batches import Batches, batches
from jann.data.datasets import load
from jann.data.files import DataError, MissingData
from jann.data.images import Dataset, Standardise
from jann.data.stream import Stream
from jann.data.time_series import Series, Windows, read_series

__all__ = [
    "Batches",
    "DataError",
    "Dataset",
    "MissingData",
    "Series",
    "Standardise",
    "Stream",
    "Windows",
    "batches",
    "load",
    "mixup",
    "random_crop",
    "random_erase",
    "random_flip",
    "read_series",
]
