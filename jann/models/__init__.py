"""Architectures, one a file."""

from jann.models.mlp import MLP

__all__ = ["MLP"]
