"""GPT-2 (Radford et al. 2019, Language Models are Unsupervised Multitask Learners)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model, stack
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
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    small_normal,
    token_positions,
    unembedding,
    width_normal,
)


class GPT2(Model):
    """A decoder with learned positions: each block attends to the past, then widens and narrows each token by itself.

    vocab:       how many tokens there are
    positions:   how many tokens it can see
    hidden:      width inside a block's second half, by default 4 embed
    dropout:     rate after the embedding, on attention weights and on what each half of a block adds
    tied:        the table of tokens also gives the logits
    labels:      so many classes of the whole text, told from its last token, in place of the token after each
    scaled:      scores are divided by sqrt(head); scaled_by_layer: and by the number of the block, from 1
    """

    vocab: int = 50257
    positions: int = 1024
    embed: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int | None = None
    activation: Callable = jax.nn.gelu
    epsilon: float = 1e-5
    dropout: float = 0.0
    tied: bool = True
    scaled: bool = True
    scaled_by_layer: bool = False
    labels: int = 0

    def spec(self):
        if self.embed % self.heads:
            raise ValueError(f"heads={self.heads} must divide embed={self.embed}")
        embed, hidden = {"embed": self.embed}, {"hidden": self.hidden or 4 * self.embed}
        heads = {"heads": self.heads, "head": self.embed // self.heads}
        kernel, added = width_normal(self.embed), width_normal(self.embed, self.layers)
        block = {
            "attention_norm": layer_norm_spec(self.embed),
            "qkv": linear_spec(embed, {"qkv": 3, **heads}, init=kernel),
            "attention_out": linear_spec(heads, embed, init=added),
            "mlp_norm": layer_norm_spec(self.embed),
            "mlp_in": linear_spec(embed, hidden, init=kernel),
            "mlp_out": linear_spec(hidden, embed, init=added),
        }
        spec = {
            "tokens": embedding_spec(self.vocab, self.embed),
            "positions": embedding_spec(self.positions, self.embed),
            "blocks": stack(block, layers=self.layers),
            "norm": layer_norm_spec(self.embed),
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
        plain = state is None and lengths is None and positions is None and documents is None
        if plain and (time := tokens.shape[-1]) > self.positions:
            raise ValueError(f"{time} tokens are more than the model's {self.positions} positions: cut them")
        positions = token_positions(tokens, lengths, positions, state)
        mask = None if plain else causal_mask(positions, cache_places(state), documents)
        x = embedding(params["tokens"], tokens) if embedded is None else embedded
        x = x + embedding(params["positions"], jnp.maximum(positions, 0))
        x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
        block = partial(self.block, positions=positions, mask=mask)
        keys = depth_keys(fold(key, "blocks"), self.layers)
        x, state = decoder_blocks(block, x, params["blocks"], positions, state, self.scales(), keys)
        return tap("normed", layer_norm(params["norm"], x, self.epsilon)), state

    def scales(self):
        """What each block's scores are multiplied by, besides 1 / sqrt(head), [layers]; None is 1"""
        if self.scaled and not self.scaled_by_layer:
            return None
        numbers = jnp.arange(1, self.layers + 1) if self.scaled_by_layer else jnp.ones(self.layers)
        return (1 if self.scaled else math.sqrt(self.embed // self.heads)) / numbers

    def block(self, x, p, cache, scale, key, *, positions, mask):
        """x[..., time, embed] -> (x + attention + MLP, cache)"""
        qkv = linear(p["qkv"], layer_norm(p["attention_norm"], x, self.epsilon))
        query, keys, values = (part.squeeze(-3) for part in jnp.split(qkv, 3, axis=-3))
        query = query if scale is None else query * scale.astype(query.dtype)
        y, cache = causal_attention(
            query, keys, values, positions, mask, cache, rate=self.dropout, key=fold(key, "attention")
        )
        y = linear(p["attention_out"], y, axes=2)
        x = x + dropout(tap("attended", y), self.dropout, fold(key, "attended"))
        y = self.activation(linear(p["mlp_in"], layer_norm(p["mlp_norm"], x, self.epsilon)))
        y = linear(p["mlp_out"], tap("hidden", y))
        return tap("block", x + dropout(y, self.dropout, fold(key, "mlp"))), cache

    def logits(self, params, x):
        """[..., embed] -> [..., vocab], or [..., labels]"""
        if self.tied and not self.labels:
            return unembedding(params["tokens"], x)
        return linear(params["head"], x)

    @property
    def limit(self) -> int:
        """The most tokens that it can see."""
        return self.positions

    def cache(self, lead: tuple[int, ...], places: int, dtype: Any = jnp.float32):
        """The state before the first token, with room for `places` tokens in each of the rows of shape `lead`."""
        return decoder_cache(self.layers, lead, places, self.heads, self.embed // self.heads, dtype)
