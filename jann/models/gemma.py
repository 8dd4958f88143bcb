"""Gemma 1 to 3, of text (Gemma Team 2024 to 2025, arXiv:2403.08295, 2408.00118, 2503.19786)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jann.core import Model, Param, stack
from jann.depth import depth_keys, tap
from jann.drawing import fold
from jann.layers import (
    cache_places,
    causal_attention,
    causal_mask,
    decoder_blocks,
    decoder_cache,
    dropout,
    embedding,
    embedding_spec,
    last_token,
    linear,
    linear_spec,
    rms_norm,
    rotary_frequencies,
    rotated,
    small_normal,
    soft_capped,
    token_positions,
    unembedding,
    width_normal,
    zeros,
)
from jann.layers.dtypes import wide_dtype


class Gemma(Model):
    """A decoder with rotary positions, gated units, embeddings that are made larger, and norms that scale by 1 + scale.

    key_value_heads:   each serves heads / key_value_heads heads of the query; by default as many as heads
    head:              features of a head, by default embed / heads
    hidden:            width of the gated unit
    positions:         how many it was made for; longer inputs are not refused
    rotary_base, rotary_scaling:  see `jann.layers.rotary_frequencies`
    window_base:       the rotary base of layers with a window, which are not stretched; None: they are as the others
    window:            how many positions a token sees, 0 is all; one number, or one a layer
    query_scale:       scores are products divided by its root; by default by that of `head`
    attention_cap, logit_cap:  scores and logits stay below, see `jann.layers.soft_capped` (Gemma 2)
    query_key_norm:    norm of each head's query and key (Gemma 3)
    post_norms:        norms of what each half of a block adds, too (Gemma 2 and 3)
    attention_bias:    of the four products of attention
    tied:              the table of tokens also gives the logits
    labels:            so many classes of the whole text, told from its last token, in place of the token after each
    """

    vocab: int
    embed: int
    layers: int
    heads: int
    hidden: int
    key_value_heads: int | None = None
    head: int | None = None
    positions: int = 8192
    activation: Callable = jax.nn.gelu
    epsilon: float = 1e-6
    rotary_base: float = 10_000.0
    rotary_scaling: tuple = ()
    window_base: float | None = None
    window: int | tuple[int, ...] = 0
    query_scale: float | None = None
    attention_cap: float | None = None
    logit_cap: float | None = None
    query_key_norm: bool = False
    post_norms: bool = False
    attention_bias: bool = False
    tied: bool = True
    dropout: float = 0.0
    labels: int = 0

    def sizes(self) -> tuple[int, int]:
        """(heads of keys and values, features of a head)"""
        shared = self.key_value_heads or self.heads
        if self.heads % shared:
            raise ValueError(f"key_value_heads={shared} must divide heads={self.heads}")
        if self.head is None and self.embed % self.heads:
            raise ValueError(f"heads={self.heads} must divide embed={self.embed}, or give head=... as well")
        return shared, self.head or self.embed // self.heads

    def spec(self):
        shared, head = self.sizes()
        embed, hidden = {"embed": self.embed}, {"hidden": self.hidden}
        heads, pairs = {"heads": self.heads, "head": head}, {"key_value_heads": shared, "head": head}
        kernel = width_normal(self.embed)
        norms = ("attention_norm", "mlp_norm", *(("attended_norm", "hidden_norm") if self.post_norms else ()))
        block = {
            **{name: norm_spec(self.embed) for name in norms},
            "query": linear_spec(embed, heads, self.attention_bias, kernel),
            "key": linear_spec(embed, pairs, self.attention_bias, kernel),
            "value": linear_spec(embed, pairs, self.attention_bias, kernel),
            "attention_out": linear_spec(heads, embed, self.attention_bias, kernel),
            "gate": linear_spec(embed, hidden, False, kernel),
            "up": linear_spec(embed, hidden, False, kernel),
            "down": linear_spec(hidden, embed, False, kernel),
        }
        if self.query_key_norm:
            block |= {"query_norm": norm_spec(head), "key_norm": norm_spec(head)}
        spec = {
            "tokens": embedding_spec(self.vocab, self.embed),
            "blocks": stack(block, layers=self.layers),
            "norm": norm_spec(self.embed),
        }
        answers = {"labels": self.labels} if self.labels else {"vocab": self.vocab}
        own = self.labels or not self.tied
        return {**spec, "head": linear_spec(embed, answers, False, small_normal)} if own else spec

    def apply(self, params, tokens, lengths=None, positions=None, documents=None, state=None, key=None):
        """tokens[..., time] -> logits of the token after each, [..., time, vocab], or of the labels, [..., labels]

        lengths, positions:  see `jann.layers.token_positions`; documents: see `jann.layers.causal_mask`
        state:               from `cache`: then tokens go on from those before, and the state holds them too
        """
        x, state = self.features(params, tokens, lengths, positions, documents, state, key)
        if self.labels:
            x = last_token(x, token_positions(tokens, lengths, positions))
        return self.logits(params, x), state

    def features(
        self, params, tokens, lengths=None, positions=None, documents=None, state=None, key=None, embedded=None
    ):
        """tokens[..., time] -> (what the logits are made of [..., time, embed], state)

        embedded:  [..., time, embed] in place of the tokens' rows of the table, as in prompt tuning
        """
        plain = state is None and lengths is None and positions is None and documents is None and self.window == 0
        positions = token_positions(tokens, lengths, positions, state)
        seen = partial(causal_mask, positions, cache_places(state), documents)
        if isinstance(self.window, tuple) and len(self.window) != self.layers:
            raise ValueError(f"window={self.window} is of {len(self.window)} layers, there are {self.layers}: one each")
        windows = jnp.asarray(self.window, jnp.int32) if isinstance(self.window, tuple) else None
        mask = seen(window=self.window) if not plain and windows is None else None
        turned = self.rotation(positions)

        def block(x, p, cache, window, key):
            if window is None:
                return self.block(x, p, cache, key, positions, mask, partial(turned, self.window))
            return self.block(x, p, cache, key, positions, seen(window=window), partial(turned, window))

        x = embedding(params["tokens"], tokens) if embedded is None else embedded
        x = x * jnp.asarray(math.sqrt(self.embed), x.dtype)
        x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
        keys = depth_keys(fold(key, "blocks"), self.layers)
        x, state = decoder_blocks(block, x, params["blocks"], positions, state, windows, keys)
        return tap("normed", norm(params["norm"], x, self.epsilon)), state

    def rotation(self, positions):
        """turned(window, x[..., time, heads, head]): queries or keys, of a layer with that window, at positions"""
        head = self.sizes()[1]
        frequencies, factor = rotary_frequencies(head, self.rotary_base, self.rotary_scaling, positions)
        if self.window_base is None:
            return lambda window, x: rotated(x, positions, frequencies, factor)
        near, near_factor = rotary_frequencies(head, self.window_base)
        near = lax.broadcast_to_rank(jnp.asarray(near), jnp.ndim(frequencies))

        def turned(window, x):
            windowed = jnp.asarray(window) > 0
            chosen = jnp.where(windowed, near, frequencies)
            return rotated(x, positions, chosen, jnp.where(windowed, near_factor, factor))

        return turned

    def block(self, x, p, cache, key, positions, mask, turned):
        """x[..., time, embed] -> (x + attention + gated units, cache); turned: the rotation of queries and keys"""
        y = norm(p["attention_norm"], x, self.epsilon)
        query, keys, values = (linear(p[name], y) for name in ("query", "key", "value"))
        if self.query_key_norm:
            query, keys = norm(p["query_norm"], query, self.epsilon), norm(p["key_norm"], keys, self.epsilon)
        y, cache = causal_attention(
            turned(query), turned(keys), values, positions, mask, cache,
            scale=(self.query_scale or self.sizes()[1]) ** -0.5, cap=self.attention_cap,
            rate=self.dropout, key=fold(key, "attention"),
        )  # fmt: skip
        y = linear(p["attention_out"], y, axes=2)
        y = norm(p["attended_norm"], y, self.epsilon) if self.post_norms else y
        x = x + dropout(tap("attended", y), self.dropout, fold(key, "attended"))
        y = norm(p["mlp_norm"], x, self.epsilon)
        y = linear(p["down"], tap("hidden", self.activation(linear(p["gate"], y)) * linear(p["up"], y)))
        y = norm(p["hidden_norm"], y, self.epsilon) if self.post_norms else y
        return tap("block", x + dropout(y, self.dropout, fold(key, "mlp"))), cache

    def logits(self, params, x):
        """[..., embed] -> [..., vocab], or [..., labels]"""
        if self.labels:
            return linear(params["head"], x)
        y = unembedding(params["tokens"], x) if self.tied else linear(params["head"], x)
        return soft_capped(y, self.logit_cap)

    def cache(self, lead: tuple[int, ...], places: int, dtype: Any = jnp.float32):
        """The state before the first token, with room for `places` tokens in each of the rows of shape `lead`."""
        return decoder_cache(self.layers, lead, places, *self.sizes(), dtype)


def norm_spec(features: int):
    """Declares `scale[features]`, which begins at 0."""
    return {"scale": Param({"features": features}, zeros)}


def norm(p, x, epsilon: float):
    """x[..., features] -> x / sqrt(mean(x²) + epsilon) * (1 + scale)"""
    return rms_norm({"scale": 1 + p["scale"].astype(wide_dtype(x))}, x, epsilon)
