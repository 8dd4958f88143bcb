"""Weights to and from other libraries: one table a family, read both ways."""

from jann.pretrained import resnet

__all__ = ["resnet"]
