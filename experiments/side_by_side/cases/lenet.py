"""A training step of LeNet-5 on a batch of MNIST's shape, where neither arithmetic nor overhead is everything."""

from functools import partial
from itertools import pairwise

from experiments.side_by_side.cases import classifiers, limits
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

BATCH, SIZE = 128, 28
PORTION = 10
DENSE = (400, 120, 84, classifiers.CLASSES)


def jann_model():
    from jann.models import LeNet

    return LeNet(outputs=classifiers.CLASSES, size=SIZE)


def start() -> Arrays:
    return classifiers.start(jann_model(), (BATCH, SIZE, SIZE, 1))


def multiplications() -> int:
    """Multiply-and-adds of a step: twice the forward pass's for gradients, but none for that of the images."""
    first = 28 * 28 * 25 * 6
    forward = first + 10 * 10 * 25 * 6 * 16 + sum(a * b for a, b in pairwise(DENSE))
    return BATCH * (3 * forward - first)


def jann(start: Arrays) -> Advance:
    return classifiers.jann(jann_model(), start, PORTION)


def linen(start: Arrays) -> Advance:
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.avg_pool(nn.tanh(nn.Conv(6, (5, 5), padding=2, name="conv1")(x)), (2, 2), (2, 2))
            x = nn.avg_pool(nn.tanh(nn.Conv(16, (5, 5), padding="VALID", name="conv2")(x)), (2, 2), (2, 2))
            x = x.reshape(len(x), -1)
            x = nn.tanh(nn.Dense(DENSE[1], name="dense1")(x))
            x = nn.tanh(nn.Dense(DENSE[2], name="dense2")(x))
            return nn.Dense(DENSE[3], name="head")(x)

    return classifiers.linen(Network(), start, PORTION)


def torch(start: Arrays, compiled: bool = False) -> Advance:
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
            self.dense1, self.dense2, self.head = (nn.Linear(a, b) for a, b in pairwise(DENSE))

        def forward(self, x):
            x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
            x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2).flatten(1)
            return self.head(torch.tanh(self.dense2(torch.tanh(self.dense1(x)))))

    # PyTorch's features are in the order channels, height, width.
    weight = start["dense1/weight"].reshape(5, 5, 16, -1)
    start["dense1/weight"] = weight.transpose(2, 0, 1, 3).reshape(DENSE[0], -1)
    return classifiers.torch(Network(), start, PORTION, compiled)


def products(start: Arrays) -> Advance:
    """The limit: as many multiplications as the step needs, in large products of matrices."""
    return limits.products(PORTION * multiplications())


CASE = Case(
    name="lenet",
    work=f"training steps of LeNet-5, batch {BATCH} of {SIZE} × {SIZE}, SGD with momentum, float32",
    unit="steps/s",
    portion=PORTION,
    start=start,
    rivals={
        "jann": jann,
        "linen": linen,
        "torch": torch,
        "torch_compile": partial(torch, compiled=True),
        "products": products,
    },
    reference="jann",
    bars=(Bar("jann", "linen", times=0.95), Bar("jann", "torch", times=1.0)),
    checked=3,
)
