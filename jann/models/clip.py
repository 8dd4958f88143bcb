"""CLIP (Radford et al. 2021, arXiv:2103.00020): images and texts as vectors, near where they belong together."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from jann.core import Model, Param, stack
from jann.depth import apply_blocks, depth_keys, scope, tap
from jann.drawing import fold
from jann.layers import (
    dot_product_attention,
    dropout,
    embedding,
    embedding_spec,
    image_patches,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    quick_gelu,
    small_normal,
    width_normal,
)
from jann.layers.dtypes import along, wide_dtype


class CLIP(Model):
    """Two encoders, one of images (a ViT) and one of texts (a decoder's blocks), whose outputs share a space.

        similarity = model(params, images, texts)                         # [images, texts]
        probabilities = jax.nn.softmax(similarity)                        # which of the texts says what an image shows

    size, patch:   of square images and patches, in pixels
    image_*, text_*:  width, blocks, heads and inner width of each encoder
    shared:        features of the space
    positions:     how many tokens a text may have
    end_token:     at whose first place a text's features are read; None: at that of the highest id
    """

    size: int = 224
    patch: int = 32
    channels: int = 3
    image_embed: int = 768
    image_layers: int = 12
    image_heads: int = 12
    image_hidden: int = 3072
    vocab: int = 49_408
    positions: int = 77
    text_embed: int = 512
    text_layers: int = 12
    text_heads: int = 8
    text_hidden: int = 2048
    shared: int = 512
    end_token: int | None = 49_407
    activation: Callable = quick_gelu
    epsilon: float = 1e-5
    dropout: float = 0.0

    def spec(self):
        if self.patch > self.size:
            raise ValueError(f"patch={self.patch} is larger than the image, size={self.size}")
        pixels = {"height": self.patch, "width": self.patch, "channels": self.channels}
        embed, places = {"embed": self.image_embed}, {"places": 1 + (self.size // self.patch) ** 2}
        project = partial(linear_spec, bias=False)
        return {
            "image": {
                "patches": linear_spec(pixels, embed, False),
                "first": Param(embed, small_normal),
                "positions": Param({**places, **embed}, small_normal),
                "first_norm": layer_norm_spec(self.image_embed),
                "blocks": blocks_spec(self.image_embed, self.image_layers, self.image_heads, self.image_hidden),
                "norm": layer_norm_spec(self.image_embed),
                "shared": project(self.image_embed, self.shared, init=width_normal(self.image_embed)),
            },
            "text": {
                "tokens": embedding_spec(self.vocab, self.text_embed),
                "positions": embedding_spec(self.positions, self.text_embed),
                "blocks": blocks_spec(self.text_embed, self.text_layers, self.text_heads, self.text_hidden),
                "norm": layer_norm_spec(self.text_embed),
                "shared": project(self.text_embed, self.shared, init=width_normal(self.text_embed)),
            },
            "scale": Param({}, jax.nn.initializers.constant(math.log(1 / 0.07))),
        }

    def apply(self, params, images, tokens, state=None, key=None):
        """images[images, height, width, channels], tokens[texts, time] -> similarities[images, texts], as logits"""
        if jnp.ndim(images) < 4 or jnp.ndim(tokens) < 2:
            shapes = f"images {list(jnp.shape(images))} and tokens {list(jnp.shape(tokens))}"
            raise ValueError(f"{shapes}: several of each are compared, one image is images[None]")
        images = self.image_features(params, images, fold(key, "image"))
        texts = self.text_features(params, tokens, fold(key, "text"))
        return jnp.exp(params["scale"]).astype(images.dtype) * (images @ jnp.swapaxes(texts, -1, -2)), state

    def image_features(self, params, images, key=None):
        """images[..., height, width, channels] -> vectors of length 1, [..., shared]"""
        p, wanted = params["image"], (self.size, self.size, self.channels)
        if images.shape[-3:] != wanted:
            raise ValueError(f"images[..., {wanted[0]}, {wanted[1]}, {wanted[2]}] wanted, got {list(images.shape)}")
        x = linear(p["patches"], image_patches(images, (self.patch, self.patch)), axes=3)
        first = jnp.broadcast_to(p["first"].astype(x.dtype), (*x.shape[:-2], 1, self.image_embed))
        x = jnp.concatenate([first, x], -2)
        x = layer_norm(p["first_norm"], x + along(p["positions"], x), self.epsilon)
        with scope("image"):
            x = self.encoded(p["blocks"], x, self.image_layers, False, key)
        return unit(linear(p["shared"], layer_norm(p["norm"], x[..., 0, :], self.epsilon)))

    def text_features(self, params, tokens, key=None):
        """tokens[..., time] -> vectors of length 1, [..., shared]; NaN for a text without `end_token`"""
        p, tokens = params["text"], jnp.asarray(tokens)
        if tokens.shape[-1] > self.positions:
            raise ValueError(f"{tokens.shape[-1]} tokens are more than the model's {self.positions} positions")
        places = jnp.broadcast_to(jnp.arange(tokens.shape[-1]), tokens.shape)
        x = embedding(p["tokens"], tokens) + embedding(p["positions"], places)
        with scope("text"):
            x = self.encoded(p["blocks"], x, self.text_layers, True, key)
        ends = tokens == (tokens.max(-1, keepdims=True) if self.end_token is None else self.end_token)
        x = jnp.take_along_axis(x, ends.argmax(-1)[..., None, None], -2)[..., 0, :]
        x = jnp.where(ends.any(-1)[..., None], x, jnp.nan)
        return unit(linear(p["shared"], layer_norm(p["norm"], x, self.epsilon)))

    def encoded(self, blocks, x, layers, causal, key):
        """x[..., places, embed] through the blocks of either encoder"""
        x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
        keys = depth_keys(fold(key, "blocks"), layers)
        return apply_blocks(partial(self.block, causal=causal), x, blocks, keys)[0]

    def block(self, x, p, key, causal):
        """x[..., places, embed] -> x + attention + MLP"""
        y = layer_norm(p["attention_norm"], x, self.epsilon)
        query, keys, values = (linear(p[name], y) for name in ("query", "key", "value"))
        y = dot_product_attention(query, keys, values, causal=causal, rate=self.dropout, key=fold(key, "attention"))
        x = x + dropout(linear(p["attention_out"], y, axes=2), self.dropout, fold(key, "attended"))
        y = self.activation(linear(p["mlp_in"], layer_norm(p["mlp_norm"], x, self.epsilon)))
        y = linear(p["mlp_out"], tap("hidden", y))
        return tap("block", x + dropout(y, self.dropout, fold(key, "mlp"))), None


def blocks_spec(embed: int, layers: int, heads: int, hidden: int):
    if embed % heads:
        raise ValueError(f"heads={heads} must divide embed={embed}")
    features, parts, inner = {"embed": embed}, {"heads": heads, "head": embed // heads}, {"hidden": hidden}
    dense = partial(linear_spec, init=width_normal(embed))
    block = {
        "attention_norm": layer_norm_spec(embed),
        **{name: dense(features, parts) for name in ("query", "key", "value")},
        "attention_out": dense(parts, features),
        "mlp_norm": layer_norm_spec(embed),
        "mlp_in": dense(features, inner),
        "mlp_out": dense(inner, features),
    }
    return stack(block, layers=layers)


def unit(x: jax.Array) -> jax.Array:
    """x[..., features] -> the same of length 1"""
    wide = x.astype(wide_dtype(x))
    return (wide / jnp.linalg.norm(wide, axis=-1, keepdims=True)).astype(x.dtype)


def pair_loss(similarity: jax.Array) -> jax.Array:
    """similarity[pairs, pairs] of images and texts, as logits -> nats, the mean over both (section 2.3 of the paper)

    Each image should be most like the text of its pair, among all, and each text most like its image.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarity[pairs, pairs] wanted, got {list(similarity.shape)}: give each image its one text")
    similarity, pairs = similarity.astype(wide_dtype(similarity)), jnp.arange(similarity.shape[-1])
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return (cross_entropy(similarity, pairs).mean() + cross_entropy(similarity.T, pairs).mean()) / 2
