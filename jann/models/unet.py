"""U-Net of diffusion: residual blocks down to a coarse image and up again, with short cuts across."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.depth import scope, tap
from jann.drawing import fold
from jann.layers import (
    attention,
    attention_spec,
    conv,
    conv_spec,
    dropout,
    embedding,
    embedding_spec,
    group_norm,
    group_norm_spec,
    linear,
    linear_spec,
    sinusoidal,
    standard_normal,
    zeros,
)


class UNet(Model):
    """Convolutional network that is told the time, and predicts the noise of an image.

    Ho, Jain and Abbeel 2020, "Denoising diffusion probabilistic models", NeurIPS, arXiv:2006.11239.

    inputs:     channels of the image, outputs: of what is predicted of it
    widths:     channels of each level; every level but the first halves height and width
    depth:      residual blocks of a level on the way down; on the way up there is one more
    attention:  which levels (counted from 0) attend over all places after each block; the middle always does
    head:       features of an attention head, by default all of them in one
    groups:     of the group norms; divides all widths
    classes:    how many labels, counting one more for "no label" where guidance asks for it; 0 for a model without
    dropout:    rate inside the residual blocks
    """

    inputs: int = 3
    outputs: int = 3
    widths: tuple[int, ...] = (128, 256, 256, 256)
    depth: int = 2
    attention: tuple[int, ...] = (1,)
    head: int | None = None
    groups: int = 32
    classes: int = 0
    dropout: float = 0.0
    activation: Callable = jax.nn.silu
    epsilon: float = 1e-6

    def __post_init__(self):
        if any(not 0 <= level < len(self.widths) for level in self.attention):
            raise ValueError(f"UNet.attention names levels 0 to {len(self.widths) - 1}, got {self.attention}")
        attended = {self.widths[-1], *(self.widths[level] for level in self.attention)}
        for field, widths in {"groups": self.widths, "head": attended if self.head else ()}.items():
            if any(width % getattr(self, field) for width in widths):
                raise ValueError(f"UNet.{field}={getattr(self, field)} must divide the widths {sorted(widths)}")

    def spec(self):
        levels, last, time = list(enumerate(self.widths)), len(self.widths) - 1, 4 * self.widths[0]
        channels, skipped, down, up = self.widths[0], [self.widths[0]], [], []
        for i, width in levels:
            blocks = []
            for _ in range(self.depth):
                blocks.append(self._block_spec(channels, width))
                channels = width
                skipped.append(width)
            down.append({"blocks": blocks, **self._attention_spec(i, self.depth)})
            if i < last:
                down[-1]["resample"] = conv_spec(width, width)
                skipped.append(width)
        for i, width in reversed(levels):
            blocks = []
            for _ in range(self.depth + 1):
                blocks.append(self._block_spec(channels + skipped.pop(), width))
                channels = width
            up.append({"blocks": blocks, **self._attention_spec(i, self.depth + 1)})
            if i > 0:
                up[-1]["resample"] = conv_spec(width, width)
        middle = self.widths[-1]
        return {
            "time": [linear_spec(self.widths[0], time), linear_spec(time, time)],
            **({"labels": embedding_spec(self.classes, time, standard_normal)} if self.classes else {}),
            "stem": conv_spec(self.inputs, self.widths[0]),
            "down": down,
            "middle": {
                "blocks": [self._block_spec(middle, middle) for _ in range(2)],
                "attention": [self._attend_spec(middle)],
            },
            "up": up,
            "norm": group_norm_spec(self.widths[0]),
            "head": conv_spec(self.widths[0], self.outputs, init=zeros),
        }

    def _block_spec(self, inputs, outputs):
        spec = {
            "norm1": group_norm_spec(inputs),
            "conv1": conv_spec(inputs, outputs),
            "time": linear_spec(4 * self.widths[0], outputs),
            "norm2": group_norm_spec(outputs),
            "conv2": conv_spec(outputs, outputs, init=zeros),
        }
        return spec if inputs == outputs else {**spec, "shortcut": conv_spec(inputs, outputs, (1, 1))}

    def _attend_spec(self, width):
        heads = width // (self.head or width)
        return {"norm": group_norm_spec(width), "attention": attention_spec(width, heads)}

    def _attention_spec(self, level, blocks):
        if level not in self.attention:
            return {}
        return {"attention": [self._attend_spec(self.widths[level]) for _ in range(blocks)]}

    def apply(self, params, x, time, label=None, state=None, key=None):
        """x[..., height, width, inputs], time[...], label[...] integers -> [..., height, width, outputs]

        time:  a scalar, or one for each image; in steps, so about 0 to 1000
        """
        halvings = 2 ** (len(self.widths) - 1)
        if x.shape[-3] % halvings or x.shape[-2] % halvings:
            raise ValueError(f"{self!r} halves images {len(self.widths) - 1} times: {list(x.shape)} is no multiple")
        if (label is None) == bool(self.classes):
            raise ValueError(f"a label is for a UNet with classes, and then always: classes={self.classes}")
        first, second = params["time"]
        condition = sinusoidal(time, self.widths[0], inclusive=True).astype(x.dtype)
        condition = linear(second, self.activation(linear(first, condition)))
        condition = jnp.broadcast_to(condition, (*x.shape[:-3], condition.shape[-1]))
        if label is not None:
            condition = condition + embedding(params["labels"], label).astype(x.dtype)
        condition = self.activation(tap("condition", condition))[..., None, None, :]

        x = conv(params["stem"], x)
        skipped = [x]
        for i, p in enumerate(params["down"]):
            for j in range(self.depth):
                x = self._layer(f"down_{i}_{j}", p, j, x, condition, key)
                skipped.append(x)
            if "resample" in p:
                x = conv(p["resample"], x, stride=2)
                skipped.append(x)
        for j in range(2):
            x = self._layer(f"middle_{j}", params["middle"], j, x, condition, key)
        for i, p in enumerate(params["up"]):
            for j in range(self.depth + 1):
                x = self._layer(f"up_{i}_{j}", p, j, jnp.concatenate([x, skipped.pop()], -1), condition, key)
            if "resample" in p:
                x = conv(p["resample"], jnp.repeat(jnp.repeat(x, 2, -3), 2, -2))
        return conv(params["head"], self.activation(self._norm(params["norm"], x))), state

    def _layer(self, place, p, j, x, condition, key):
        """The jth residual block of a level, and its attention where it has one."""
        block, attends = p["blocks"][j], p.get("attention", [])[j : j + 1]
        y = conv(block["conv1"], self.activation(self._norm(block["norm1"], x)))
        y = y + linear(block["time"], condition)
        y = dropout(self.activation(self._norm(block["norm2"], y)), self.dropout, fold(key, place))
        x = conv(block["conv2"], y) + (conv(block["shortcut"], x) if "shortcut" in block else x)
        with scope(place):
            for p in attends:
                places = self._norm(p["norm"], x).reshape(*x.shape[:-3], -1, x.shape[-1])
                x = x + attention(p["attention"], places).reshape(x.shape)
            return tap("block", x)

    def _norm(self, p, x):
        return group_norm(p, x, self.groups, epsilon=self.epsilon)
