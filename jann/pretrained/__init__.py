"""Weights to and from other libraries: one table a family, read both ways."""

from jann.pretrained import recurrent, resnet

__all__ = ["recurrent", "resnet"]
