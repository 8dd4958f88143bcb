"""Weights to and from other libraries: one table a family, read both ways."""

from jann.pretrained import resnet, unet

__all__ = ["resnet", "unet"]
from jann.pretrained import patchtst, resnet

__all__ = ["patchtst", "resnet"]
