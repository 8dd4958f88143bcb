"""Weights to and from other libraries: one table a family, read both ways."""

from jann.pretrained import resnet, unet

__all__ = ["resnet", "unet"]
from jann.pretrained import patchtst, resnet

__all__ = ["patchtst", "resnet"]
from jann.pretrained import resnet
from jann.pretrained.hub import PretrainedError, from_pretrained, save_pretrained
from jann.pretrained.tables import WeightsError

__all__ = ["PretrainedError", "WeightsError", "from_pretrained", "resnet", "save_pretrained"]
