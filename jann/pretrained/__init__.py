"""Weights to and from other libraries: one table a family, read both ways."""

from jann.pretrained import patchtst, resnet, unet
from jann.pretrained.hub import PretrainedError, from_pretrained, save_pretrained
from jann.pretrained.tables import WeightsError

__all__ = [
    "PretrainedError",
    "WeightsError",
    "from_pretrained",
    "patchtst",
    "resnet",
    "save_pretrained",
    "unet",
]
from jann.pretrained import recurrent, resnet

__all__ = ["recurrent", "resnet"]
