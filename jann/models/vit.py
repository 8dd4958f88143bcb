"""The Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929).

DINOv2 (Oquab et al. 2023, arXiv:2304.07193) is built like it.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jann.core import Model, Param, stack
from jann.depth import apply_blocks, depth_keys, tap
from jann.drawing import fold
from jann.layers import (
    dot_product_attention,
    dropout,
    exact_gelu,
    image_patches,
    interpolated,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    ones,
    small_normal,
    width_normal,
    zeros,
)
from jann.layers.dtypes import along


class ViT(Model):
    """An image as a sequence of patches, through an encoder; a token put before them answers.

    size, patch:  height and width of an image and of a patch, in pixels; one number where both are equal. Where patches
                  do not fill the image, rows below and columns to the right of them are not seen.
    outputs:      classes; 0 gives the features [..., 1 + patches, embed] instead of logits
    pooler:       a layer on the first token, which some published models carry; see `pooled`
    layer_scale:  what each half of a block adds is scaled, each feature by itself (DINOv2; Touvron et al. 2021,
                  arXiv:2103.17239)
    mean_too:     the classes are told from the first token and the mean of the patches' (DINOv2)
    mask_token:   there is a token in place of patches that are masked, see `apply`
    """

    size: int | tuple[int, int] = 224
    patch: int | tuple[int, int] = 16
    channels: int = 3
    embed: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    outputs: int = 1000
    qkv_bias: bool = True
    pooler: bool = False
    activation: Callable = exact_gelu
    epsilon: float = 1e-12
    dropout: float = 0.0
    layer_scale: bool = False
    mean_too: bool = False
    mask_token: bool = False

    def spec(self):
        rows, columns = self.grid()
        if self.embed % self.heads:
            raise ValueError(f"heads={self.heads} must divide embed={self.embed}")
        embed, hidden = {"embed": self.embed}, {"hidden": self.hidden}
        heads = {"heads": self.heads, "head": self.embed // self.heads}
        dense = partial(linear_spec, init=width_normal(self.embed))
        block = {
            "attention_norm": layer_norm_spec(self.embed),
            **{name: dense(embed, heads, self.qkv_bias) for name in ("query", "key", "value")},
            "attention_out": dense(heads, embed),
            "mlp_norm": layer_norm_spec(self.embed),
            "mlp_in": dense(embed, hidden),
            "mlp_out": dense(hidden, embed),
        }
        if self.layer_scale:
            block |= {"attention_scale": Param(embed, ones), "mlp_scale": Param(embed, ones)}
        pixels = {**dict(zip(("height", "width"), _both(self.patch), strict=True)), "channels": self.channels}
        spec = {
            "patches": linear_spec(pixels, embed),
            "first": Param(embed, small_normal),
            "positions": Param({"places": 1 + rows * columns, **embed}, small_normal),
            "blocks": stack(block, layers=self.layers),
            "norm": layer_norm_spec(self.embed),
        }
        if self.mask_token:
            spec["masked"] = Param(embed, zeros)
        if self.pooler:
            spec["pooler"] = dense(self.embed, self.embed)
        if self.outputs:
            spec["head"] = linear_spec((1 + self.mean_too) * self.embed, self.outputs, init=zeros)
        return spec

    def apply(self, params, images, masked=None, state=None, key=None):
        """images[..., height, width, channels] -> logits[..., outputs]

        masked:  [..., patches], true where a patch is hidden, with `mask_token`; row by row, as `grid` says
        """
        x = self.features(params, images, key, masked)
        if not self.outputs:
            return x, state
        first, patches = x[..., 0, :], x[..., 1:, :]
        told = jnp.concatenate([first, patches.mean(-2)], -1) if self.mean_too else first
        return linear(params["head"], told), state

    def grid(self) -> tuple[int, int]:
        """How many patches stand below and beside each other."""
        rows, columns = (size // patch for size, patch in zip(_both(self.size), _both(self.patch), strict=True))
        if not rows * columns:
            raise ValueError(f"patch={self.patch} is larger than the image, size={self.size}")
        return rows, columns

    def features(self, params, images, key=None, masked=None):
        """images[..., height, width, channels] -> [..., 1 + patches, embed], the answering token first"""
        (height, width), _ = _both(self.size), self.grid()
        if images.shape[-3:] != (height, width, self.channels):
            raise ValueError(
                f"images[..., {height}, {width}, {self.channels}] wanted, got {list(images.shape)}: "
                f"resize them (jax.image.resize), or build the model for their size"
            )
        x = linear(params["patches"], image_patches(images, _both(self.patch)), axes=3)
        if masked is not None and not self.mask_token:
            raise ValueError("masked patches need a token in their place: build the model with mask_token=True")
        if masked is not None:
            if jnp.shape(masked)[-1:] != x.shape[-2:-1]:
                raise ValueError(
                    f"masked[..., {x.shape[-2]} patches] wanted, row by row, got {list(jnp.shape(masked))}"
                )
            x = jnp.where(jnp.asarray(masked, bool)[..., None], along(params["masked"], x), x)
        first = jnp.broadcast_to(params["first"].astype(x.dtype), (*x.shape[:-2], 1, self.embed))
        x = jnp.concatenate([first, x], -2)
        x = x + jax.lax.broadcast_to_rank(params["positions"].astype(x.dtype), x.ndim)
        x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
        x = apply_blocks(self.block, x, params["blocks"], depth_keys(fold(key, "blocks"), self.layers))[0]
        return tap("normed", layer_norm(params["norm"], x, self.epsilon))

    def block(self, x, p, key):
        """x[..., places, embed] -> x + attention + MLP"""
        y = layer_norm(p["attention_norm"], x, self.epsilon)
        query, keys, values = (linear(p[name], y) for name in ("query", "key", "value"))
        y = dot_product_attention(query, keys, values, rate=self.dropout, key=fold(key, "attention"))
        y = linear(p["attention_out"], y, axes=2)
        y = y * along(p["attention_scale"], y) if self.layer_scale else y
        x = x + dropout(y, self.dropout, fold(key, "attended"))
        y = self.activation(linear(p["mlp_in"], layer_norm(p["mlp_norm"], x, self.epsilon)))
        y = linear(p["mlp_out"], tap("hidden", y))
        y = y * along(p["mlp_scale"], y) if self.layer_scale else y
        return tap("block", x + dropout(y, self.dropout, fold(key, "mlp"))), None

    def resized(self, params, size):
        """(model, params) for images of another size, (height, width) or one number: positions are interpolated

            model, params = model.resized(params, 384)  # before fine-tuning at that size (section 3.2 of the paper)

        As transformers' `interpolate_pos_encoding` does at each call.
        """
        model = dataclasses.replace(self, size=size)
        positions = params["positions"]
        places = positions[1:].reshape(*self.grid(), self.embed)
        places = interpolated(places, *model.grid()).reshape(-1, self.embed)
        return model, {**params, "positions": jnp.concatenate([positions[:1], places])}

    def pooled(self, params, x):
        """features[..., places, embed] -> tanh of a layer on the first, [..., embed]"""
        if "pooler" not in params:
            raise ValueError(f"{self} has no pooler: build or load it with pooler=True")
        return jnp.tanh(linear(params["pooler"], x[..., 0, :]))


def _both(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
