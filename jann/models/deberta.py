"""DeBERTa (He et al. 2021, arXiv:2006.03654; versions 2 and 3, arXiv:2111.09543): content and position kept apart.

A token's score of another is the sum of what their contents say of each other, what its content says of their distance,
and what their distance says of the other's content.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import stack
from jann.depth import apply_blocks, depth_keys, tap
from jann.drawing import fold
from jann.layers import (
    dot_product_attention,
    dropout,
    embedding_spec,
    exact_gelu,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    source_mask,
    width_normal,
)
from jann.models.bert import BERT


class DeBERTa(BERT):
    """The heads, and the rest of a block, are BERT's.

    positions:  rows of a table of positions that is added to the tokens'; 0: only distances tell
    buckets:    of distances, to either side; 0: each distance below `furthest` has its own
    furthest:   distance from which all are one
    content_to_position, position_to_content:  which of the two last sums there are
    shared:         distances go through the queries' and keys' own projections, in place of two of theirs
    relative_norm:  a norm stands on the table of distances
    table:      as in BERT, with the norm behind the layer that widens, which has no bias
    """

    vocab: int = 128_100
    positions: int = 0
    segments: int = 0
    epsilon: float = 1e-7
    pooler_activation: Callable = exact_gelu
    buckets: int = 256
    furthest: int = 512
    content_to_position: bool = True
    position_to_content: bool = True
    shared: bool = True
    relative_norm: bool = True

    def spec(self):
        if self.first_position or self.relative_buckets or self.groups:
            raise ValueError("first_position, relative_buckets and groups are BERT's own: leave them 0")
        if not (self.content_to_position or self.position_to_content):
            raise ValueError("content_to_position=False, position_to_content=False: this is a BERT, take that")
        if self.buckets == 1 or self.furthest < self.buckets // 2 + 2:
            raise ValueError(
                f"buckets={self.buckets}, furthest={self.furthest}: give 0 or at least 2 buckets, and a furthest "
                "distance of more than half as many and one"
            )
        spec, norm = super().spec(), layer_norm_spec(self.embed)
        spec["norm"] = norm
        dense = partial(linear_spec, init=width_normal(self.embed))
        embed, heads = {"embed": self.embed}, {"heads": self.heads, "head": self.embed // self.heads}
        if self.widens:
            spec["widen"] = dense({"table": self.table}, embed, bias=False)
        spec["distances"] = embedding_spec(2 * self.span, self.embed)
        if self.relative_norm:
            spec["distances_norm"] = norm
        if not self.shared:
            own = {"distance_key": self.content_to_position, "distance_query": self.position_to_content}
            spec["blocks"] |= stack({name: dense(embed, heads) for name in own if own[name]}, layers=self.layers)
        return spec

    @property
    def span(self) -> int:
        """Rows of the table of distances, to either side."""
        return self.buckets or self.furthest

    def features(self, params, tokens, lengths=None, segments=None, key=None):
        """tokens[..., time] -> [..., time, embed]"""
        time = tokens.shape[-1]
        x = self.rows(params, tokens, lengths, segments)
        x = linear(params["widen"], x) if self.widens else x
        x = tap("embedded", dropout(layer_norm(params["norm"], x, self.epsilon), self.dropout, fold(key, "embedded")))
        distances = params["distances"]["table"].astype(x.dtype)
        if self.relative_norm:
            distances = layer_norm(params["distances_norm"], distances, self.epsilon)
        places = jnp.arange(time)
        bucket = jnp.asarray(self.bucket_of(time))[places[:, None] - places[None, :] + time - 1]
        block = partial(self.block, mask=source_mask(time, lengths), bias=(distances, bucket))
        return apply_blocks(block, x, params["blocks"], depth_keys(fold(key, "blocks"), self.layers))[0]

    def bucket_of(self, time: int) -> np.ndarray:
        """Distances here - there, from 1 - time to time - 1 -> their rows of the table: exact when near, then by the
        logarithm"""
        distance = np.arange(1 - time, time)
        near = self.buckets // 2
        if self.buckets:
            far = np.maximum(np.abs(distance), near).astype(np.float32)
            steps = np.log(far / np.float32(near)) / np.log(np.float32((self.furthest - 1) / near)) * (near - 1)
            distance = np.where(np.abs(distance) <= near, distance, np.sign(distance) * (np.ceil(steps) + near))
        return np.clip(distance + self.span, 0, 2 * self.span - 1).astype(np.int32)

    def attention(self, x, p, key, mask, bias):
        """x[..., time, embed] -> [..., time, heads, head]"""
        distances, bucket = bias
        query, keys, values = (linear(p[name], x) for name in ("query", "key", "value"))
        scale = (query.shape[-1] * (1 + self.content_to_position + self.position_to_content)) ** -0.5
        distances = dropout(distances, self.dropout, fold(key, "distances"))
        score = 0
        if self.content_to_position:
            far = linear(p["key" if self.shared else "distance_key"], distances)
            score = score + at_distance(query, far, bucket)
        if self.position_to_content:
            far = linear(p["query" if self.shared else "distance_query"], distances)
            score = score + jnp.swapaxes(at_distance(keys, far, bucket.T), -1, -2)
        return dot_product_attention(
            query, keys, values, mask, bias=scale * score, scale=scale, rate=self.dropout, key=fold(key, "attention")
        )


def at_distance(x: jax.Array, far: jax.Array, bucket: jax.Array) -> jax.Array:
    """x[..., time, heads, head] · far[rows, heads, head] at row bucket[time, places] -> [..., heads, time, places]"""
    every = jnp.einsum("...thd,rhd->...htr", x, far)
    return jnp.take_along_axis(every, bucket.reshape(*(1,) * (every.ndim - 2), *bucket.shape), -1)
