"""Diffusion transformer: a vision transformer whose norms are told the time and the label."""

import jax
import jax.numpy as jnp

from jann.core import Model, stack
from jann.depth import apply_blocks, tap
from jann.layers import (
    attention,
    attention_spec,
    embedding,
    embedding_spec,
    linear,
    linear_spec,
    sinusoidal,
    standard_normal,
    zeros,
)
from jann.layers.dtypes import wide_dtype

FREQUENCIES = 256  # features of the time before its two layers


class DiT(Model):
    """Transformer on the patches of a noisy image, with adaptive layer norm that starts at zero (adaLN-Zero).

    Peebles and Xie 2023, "Scalable diffusion models with transformers", ICCV, arXiv:2212.09748. Before training every
    block is the identity and the output is zero.

    size:     height and width of the image; patch, of each token's square, divides it
    inputs:   channels of the image, and of the output
    mlp:      hidden features of a block's MLP, by default four times `embed`
    classes:  how many labels, counting one more for "no label" where guidance asks for it; 0 for a model without
    """

    size: int = 32
    inputs: int = 4
    patch: int = 2
    embed: int = 384
    depth: int = 12
    heads: int = 6
    mlp: int | None = None
    classes: int = 0

    def __post_init__(self):
        if self.size % self.patch:
            raise ValueError(f"DiT.patch must divide its size {self.size}, got {self.patch}")
        if self.embed % 4:
            raise ValueError(f"DiT.embed must be a multiple of 4, for sines and cosines of two axes, got {self.embed}")

    def spec(self):
        embed, pixels, mlp = self.embed, self.patch**2 * self.inputs, self.mlp or 4 * self.embed
        # Labels start as large as the time. At the usual 0.02 they are learnt late: after 800 steps on digits 20 % of
        # the samples were what had been asked for, against 81 %.
        labels = {"labels": embedding_spec(self.classes, embed, standard_normal)} if self.classes else {}
        block = {
            "modulation": linear_spec({"embed": embed}, {"parts": 6, "features": embed}, init=zeros),
            "attention": attention_spec(embed, self.heads),
            "up": linear_spec({"embed": embed}, {"mlp": mlp}),
            "down": linear_spec({"mlp": mlp}, {"embed": embed}),
        }
        return {
            "patches": linear_spec(pixels, embed),
            "time": [linear_spec(FREQUENCIES, embed), linear_spec(embed, embed)],
            **labels,
            "blocks": stack(block, layers=self.depth),
            "modulation": linear_spec({"embed": embed}, {"parts": 2, "features": embed}, init=zeros),
            "head": linear_spec(embed, pixels, init=zeros),
        }

    def apply(self, params, x, time, label=None, state=None, key=None):
        """x[..., size, size, inputs], time[...], label[...] integers -> [..., size, size, inputs]

        time:  a scalar, or one for each image; in steps, so about 0 to 1000
        """
        if x.shape[-3:] != (self.size, self.size, self.inputs):
            raise ValueError(f"{self!r} takes x[..., {self.size}, {self.size}, {self.inputs}], got {list(x.shape)}")
        if (label is None) == bool(self.classes):
            raise ValueError(f"a label is for a DiT with classes, and then always: classes={self.classes}")
        first, second = params["time"]
        condition = jax.nn.silu(linear(first, sinusoidal(time, FREQUENCIES).astype(x.dtype)))
        condition = jnp.broadcast_to(linear(second, condition), (*x.shape[:-3], self.embed))
        if label is not None:
            condition = condition + embedding(params["labels"], label).astype(x.dtype)
        condition = jax.nn.silu(tap("condition", condition))[..., None, :]

        tokens = linear(params["patches"], self._patches(x))
        tokens = tokens + jax.lax.broadcast_to_rank(self._positions().astype(x.dtype), tokens.ndim)
        tokens, _ = apply_blocks(lambda tokens, p: self._block(tokens, p, condition), tokens, params["blocks"])
        shift, scale = _parts(params["modulation"], condition)
        return self._image(linear(params["head"], _normalised(tokens) * (1 + scale) + shift)), state

    def _block(self, x, p, condition):
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = _parts(p["modulation"], condition)
        x = x + gate * attention(p["attention"], _normalised(x) * (1 + scale) + shift)
        hidden = jax.nn.gelu(linear(p["up"], _normalised(x) * (1 + mlp_scale) + mlp_shift))
        return tap("block", x + mlp_gate * linear(p["down"], hidden)), None

    def _patches(self, x):
        """x[..., size, size, inputs] -> [..., tokens, patch · patch · inputs]"""
        across = self.size // self.patch
        x = x.reshape(*x.shape[:-3], across, self.patch, across, self.patch, self.inputs)
        return jnp.swapaxes(x, -4, -3).reshape(*x.shape[:-5], across**2, -1)

    def _image(self, tokens):
        """The inverse of `_patches`."""
        across = self.size // self.patch
        x = tokens.reshape(*tokens.shape[:-2], across, across, self.patch, self.patch, self.inputs)
        return jnp.swapaxes(x, -4, -3).reshape(*tokens.shape[:-2], self.size, self.size, self.inputs)

    def _positions(self):
        """[tokens, embed]: half of the features say the row, half the column"""
        axis = sinusoidal(jnp.arange(self.size // self.patch), self.embed // 2)
        rows, columns = jnp.repeat(axis, len(axis), 0), jnp.tile(axis, (len(axis), 1))
        return jnp.concatenate([rows, columns], -1)


def _parts(p, condition):
    """condition[..., 1, embed] -> shift, scale (and gate, and those again), each [..., 1, features]"""
    modulation = linear(p, condition)
    return [modulation[..., i, :] for i in range(modulation.shape[-2])]


def _normalised(x):
    """Layer norm without a scale and bias of its own."""
    wide = x.astype(wide_dtype(x))
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    return ((wide - mean) * jax.lax.rsqrt(variance + 1e-6)).astype(x.dtype)
