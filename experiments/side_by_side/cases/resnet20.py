"""A training step of ResNet-20 on a batch of CIFAR's shape, where the time goes into small convolutions."""

from functools import partial

from experiments.side_by_side.cases import classifiers, limits
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

BATCH, SIZE = 128, 32
WIDTHS, DEPTH = (16, 32, 64), 3
PORTION = 2


def jann_model():
    from jann.models import ResNet

    return ResNet(outputs=classifiers.CLASSES, depths=(DEPTH,) * len(WIDTHS), widths=WIDTHS)


def start() -> Arrays:
    return classifiers.start(jann_model(), (BATCH, SIZE, SIZE, 3))


def multiplications() -> int:
    """Multiply-and-adds of a step: twice the forward pass's for gradients, but none for that of the images."""
    first = SIZE**2 * 9 * 3 * WIDTHS[0]
    forward, channels = first + WIDTHS[-1] * classifiers.CLASSES, WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        places = (SIZE // 2**stage) ** 2
        forward += places * 9 * (channels * width + (2 * DEPTH - 1) * width**2)
        channels = width
    return BATCH * (3 * forward - first)


def jann(start: Arrays) -> Advance:
    return classifiers.jann(jann_model(), start, PORTION)


def linen(start: Arrays) -> Advance:
    import jax.numpy as jnp
    from flax import linen as nn

    conv = partial(nn.Conv, kernel_size=(3, 3), padding=1, use_bias=False)
    norm = partial(nn.BatchNorm, use_running_average=False, momentum=0.9, epsilon=1e-5)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(norm(name="stem_norm")(conv(WIDTHS[0], name="stem_conv")(x)))
            for stage, width in enumerate(WIDTHS):
                for i in range(DEPTH):
                    name, stride = f"stages_{stage}_{i}", 2 if stage and not i else 1
                    y = conv(width, strides=stride, name=f"{name}_conv1")(x)
                    y = nn.relu(norm(name=f"{name}_norm1")(y))
                    y = norm(name=f"{name}_norm2")(conv(width, name=f"{name}_conv2")(y))
                    missing = width - x.shape[-1]
                    sides = [(0, 0)] * 3 + [(missing // 2, missing - missing // 2)]
                    x = nn.relu(jnp.pad(x[:, ::stride, ::stride], sides) + y)
            return nn.Dense(classifiers.CLASSES, name="head")(x.mean((1, 2)))

    return classifiers.linen(Network(), start, PORTION)


def torch(start: Arrays, **options: bool) -> Advance:
    from torch import nn
    from torch.nn import functional as F

    def conv(inputs, outputs, stride=1):
        return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)

    class Block(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            self.stride, self.missing = stride, width - inputs
            self.conv1, self.norm1 = conv(inputs, width, stride), nn.BatchNorm2d(width)
            self.conv2, self.norm2 = conv(width, width), nn.BatchNorm2d(width)

        def forward(self, x):
            y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2)) if self.missing else x
            return F.relu(x + y)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.ModuleDict({"conv": conv(3, WIDTHS[0]), "norm": nn.BatchNorm2d(WIDTHS[0])})
            channels, stages = WIDTHS[0], []
            for stage, width in enumerate(WIDTHS):
                first = Block(channels, width, 2 if stage else 1)
                stages.append(nn.Sequential(first, *(Block(width, width, 1) for _ in range(DEPTH - 1))))
                channels = width
            self.stages, self.head = nn.Sequential(*stages), nn.Linear(channels, classifiers.CLASSES)

        def forward(self, x):
            x = self.stages(F.relu(self.stem["norm"](self.stem["conv"](x))))
            return self.head(x.mean((2, 3)))

    return classifiers.torch(Network(), start, PORTION, **options)


def products(start: Arrays) -> Advance:
    """The limit: as many multiplications as the step needs, in large products of matrices."""
    return limits.products(PORTION * multiplications())


CASE = Case(
    name="resnet20",
    work=f"training steps of ResNet-20, batch {BATCH} of {SIZE} × {SIZE}, SGD with momentum, float32",
    unit="steps/s",
    portion=PORTION,
    start=start,
    rivals={
        "jann": jann,
        "linen": linen,
        "torch": torch,
        "torch_channels_last": partial(torch, channels_last=True),
        "torch_compile": partial(torch, compiled=True),
        "products": products,
    },
    reference="jann",
    bars=(Bar("jann", "linen", times=0.95), Bar("jann", "torch", times=1.0)),
    checked=PORTION,
)
