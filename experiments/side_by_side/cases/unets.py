"""The same U-Net in PyTorch as jann has it, with jann's weights: what cases of diffusion share."""

from typing import NamedTuple

import numpy as np

from experiments.side_by_side.harness import Arrays


class Sizes(NamedTuple):
    """What the U-Net of either library is made from; see `jann.models.UNet`."""

    channels: int
    widths: tuple[int, ...]
    depth: int
    attention: tuple[int, ...]
    groups: int


def jann_model(sizes: Sizes):
    from jann.models import UNet

    channels, widths, depth, attention, groups = sizes
    return UNet(channels, channels, widths=widths, depth=depth, attention=attention, groups=groups)


def torch(sizes: Sizes, weights: Arrays):
    """A module: (x[batch, channels, height, width], time[batch]) -> the noise in x, alike. Layers are named as ours."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    channels, widths, depth, attention, groups = sizes
    last, features = len(widths) - 1, 4 * widths[0]

    def norm(width):
        return nn.GroupNorm(groups, width, eps=1e-6)

    def conv(inputs, outputs):
        return nn.Conv2d(inputs, outputs, 3, padding=1)

    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.norm1, self.conv1 = norm(inputs), conv(inputs, outputs)
            self.time = nn.Linear(features, outputs)
            self.norm2, self.conv2 = norm(outputs), conv(outputs, outputs)
            self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

        def forward(self, x, condition):
            y = self.conv1(F.silu(self.norm1(x))) + self.time(condition)[:, :, None, None]
            return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))

    class Attention(nn.Module):
        """Over all places, with one head."""

        def __init__(self, width):
            super().__init__()
            self.norm = norm(width)
            self.attention = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value", "out")})

        def forward(self, x):
            places = self.norm(x).flatten(2).transpose(1, 2)
            q, k, v = (self.attention[name](places)[:, None] for name in ("query", "key", "value"))
            y = self.attention["out"](F.scaled_dot_product_attention(q, k, v)[:, 0])
            return x + y.transpose(1, 2).reshape(x.shape)

    class Level(nn.Module):
        """Residual blocks, an attention after each where the level attends, and what leads to the next level."""

        def __init__(self, blocks, attends, resample=None):
            super().__init__()
            self.blocks = nn.ModuleList(Block(inputs, outputs) for inputs, outputs in blocks)
            self.attention = nn.ModuleList(Attention(blocks[0][1]) for _ in range(attends))
            self.resample = resample

        def layer(self, j, x, condition):
            x = self.blocks[j](x, condition)
            return self.attention[j](x) if j < len(self.attention) else x

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            width, skipped, down, up = widths[0], [widths[0]], [], []
            for i, outputs in enumerate(widths):
                blocks = [(outputs if j else width, outputs) for j in range(depth)]
                resample = nn.Conv2d(outputs, outputs, 3, stride=2) if i < last else None
                down.append(Level(blocks, depth if i in attention else 0, resample))
                skipped += [outputs] * (depth + (i < last))
                width = outputs
            for i, outputs in reversed(list(enumerate(widths))):
                blocks = [((outputs if j else width) + skipped.pop(), outputs) for j in range(depth + 1)]
                resample = conv(outputs, outputs) if i > 0 else None
                up.append(Level(blocks, depth + 1 if i in attention else 0, resample))
                width = outputs
            self.time = nn.ModuleList([nn.Linear(widths[0], features), nn.Linear(features, features)])
            self.stem, self.down, self.up = conv(channels, widths[0]), nn.ModuleList(down), nn.ModuleList(up)
            self.middle = Level([(widths[-1], widths[-1])] * 2, 1)
            self.norm, self.head = norm(widths[0]), conv(widths[0], channels)
            n = widths[0] // 2
            frequencies = torch.exp(-np.log(10_000) / (n - 1) * torch.arange(n))
            self.register_buffer("frequencies", frequencies, persistent=False)

        def forward(self, x, time):
            angles = time[:, None] * self.frequencies
            condition = self.time[0](torch.cat([angles.sin(), angles.cos()], -1))
            condition = F.silu(self.time[1](F.silu(condition)))
            x = self.stem(x)
            skipped = [x]
            for level in self.down:
                for j in range(depth):
                    x = level.layer(j, x, condition)
                    skipped.append(x)
                if level.resample is not None:
                    x = level.resample(F.pad(x, (0, 1, 0, 1)))
                    skipped.append(x)
            for j in range(2):
                x = self.middle.layer(j, x, condition)
            for level in self.up:
                for j in range(depth + 1):
                    x = level.layer(j, torch.cat([x, skipped.pop()], 1), condition)
                if level.resample is not None:
                    x = level.resample(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            return self.head(F.silu(self.norm(x)))

    network = UNet()
    named = (torch_named(path, leaf) for path, leaf in weights.items())
    network.load_state_dict({name: torch.tensor(array) for name, array in named})
    return network.eval()


def torch_named(path: str, leaf: np.ndarray) -> tuple[str, np.ndarray]:
    """One of jann's weights by PyTorch's name, kernels as [outputs, inputs, height, width] or [outputs, inputs]"""
    *above, layer, part = path.split("/")
    name = ".".join([*above, layer, "weight" if part == "scale" else part])
    if part != "weight":
        return name, leaf.reshape(-1)
    if leaf.ndim == 4:
        return name, leaf.transpose(3, 2, 0, 1)
    # of attention, queries and such have heads among their outputs, and what comes out of it among its inputs
    matrix = leaf.reshape(-1, leaf.shape[-1]) if layer == "out" else leaf.reshape(len(leaf), -1)
    return name, matrix.T
