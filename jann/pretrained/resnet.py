"""Weights of residual networks, as PyTorch's state dicts hold them.

Both common layouts: torchvision's for ImageNet ("fc.weight", "layer1.0.downsample.0.weight") and that of the usual
CIFAR networks ("linear.weight", "layer1.0.shortcut.0.weight").
"""

from collections.abc import Mapping

import numpy as np

from jann.models.resnet import ResNet
from jann.pretrained.tables import Table, read, write
from jann.trees import Tree

KERNEL = (2, 3, 1, 0)  # [outputs, inputs, height, width] -> [height, width, inputs, outputs]
MATRIX = (1, 0)  # [outputs, inputs] -> [inputs, outputs]


def from_torch(tensors: Mapping[str, np.ndarray], model: ResNet | None = None) -> Tree:
    """{"layer1.0.conv1.weight": array, ...} -> parameters of a `ResNet`, running statistics among them.

    With the model, tensors that it lacks or does not have are reported too, and not only names that no model has.

    Raises WeightsError listing missing and unexpected tensors by name.
    """
    return read(CIFAR if "linear.weight" in tensors else TORCHVISION, tensors, model, r"num_batches_tracked$")


def to_torch(params: Tree) -> dict[str, np.ndarray]:
    """Parameters of a `ResNet` -> {"layer1.0.conv1.weight": array, ...}, the inverse of `from_torch`.

    In torchvision's layout where the first convolution is 7x7, in that of the CIFAR networks where it is 3x3.
    """
    return write(TORCHVISION if params["stem"]["conv"]["weight"].shape[0] == 7 else CIFAR, params)


def _norm(theirs: str, ours: str) -> Table:
    pairs = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
    return tuple((f"{theirs}.{a}", f"{ours}/{b}", None) for a, b in pairs.items())


def _table(head: str, shortcut: str) -> Table:
    return (
        ("conv1.weight", "stem/conv/weight", KERNEL),
        *_norm("bn1", "stem/norm"),
        ("layer+.*.conv*.weight", "stages/*/*/conv*/weight", KERNEL),
        *_norm("layer+.*.bn*", "stages/*/*/norm*"),
        (f"layer+.*.{shortcut}.0.weight", "stages/*/*/shortcut/conv/weight", KERNEL),
        *_norm(f"layer+.*.{shortcut}.1", "stages/*/*/shortcut/norm"),
        (f"{head}.weight", "head/weight", MATRIX),
        (f"{head}.bias", "head/bias", None),
    )


TORCHVISION = _table("fc", "downsample")
CIFAR = _table("linear", "shortcut")
