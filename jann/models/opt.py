"""OPT (Zhang et al. 2022, arXiv:2205.01068), the open counterpart of GPT-3."""

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

FIRST = 2  # rows of the table of positions before the first
EPSILON = 1e-5


class OPT(Model):
    """A decoder with learned positions: each block attends to the past, then widens and narrows each token by itself.

    positions:   how many tokens it can see
    hidden:      width inside a block's second half, by default 4 embed
    table:       width of the table of tokens, by default embed; another one is brought to it by a product
    norm_first:  each half of a block norms its input, and the last block's output is normed; else what it adds to
    bias:        of the products of a block
    dropout:     rate on attention weights and on what each half of a block adds
    tied:        the table of tokens also gives the logits
    labels:      so many classes of the whole text, told from its last token, in place of the token after each
    """

    vocab: int = 50_272
    positions: int = 2048
    embed: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int | None = None
    table: int | None = None
    activation: Callable = jax.nn.relu
    norm_first: bool = True
    bias: bool = True
    dropout: float = 0.0
    tied: bool = True
    labels: int = 0

    def spec(self):
        if self.embed % self.heads:
            raise ValueError(f"heads={self.heads} must divide embed={self.embed}")
        embed, hidden = {"embed": self.embed}, {"hidden": self.hidden or 4 * self.embed}
        heads = {"heads": self.heads, "head": self.embed // self.heads}
        kernel, added = width_normal(self.embed), width_normal(self.embed, self.layers)
        block = {
            **{name: linear_spec(embed, heads, self.bias, kernel) for name in ("query", "key", "value")},
            "attention_out": linear_spec(heads, embed, self.bias, added),
            "attention_norm": layer_norm_spec(self.embed),
            "mlp_in": linear_spec(embed, hidden, self.bias, kernel),
            "mlp_out": linear_spec(hidden, embed, self.bias, added),
            "mlp_norm": layer_norm_spec(self.embed),
        }
        width = {"table": self.table or self.embed}
        spec = {
            "tokens": embedding_spec(self.vocab, width["table"]),
            "positions": embedding_spec(FIRST + self.positions, self.embed),
            "blocks": stack(block, layers=self.layers),
        }
        if self.norm_first:
            spec["norm"] = layer_norm_spec(self.embed)
        if width["table"] != self.embed:
            spec["in"], spec["out"] = linear_spec(width, embed, False), linear_spec(embed, width, False)
        answers = {"labels": self.labels} if self.labels else {"vocab": self.vocab}
        own = self.labels or not self.tied
        return {**spec, "head": linear_spec(width, answers, False, small_normal)} if own else spec

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
        """tokens[..., time] -> (what the logits are made of [..., time, table], state)

        embedded:  [..., time, table] in place of the tokens' rows of the table, as in prompt tuning
        """
        plain = state is None and lengths is None and positions is None and documents is None
        if plain and (time := tokens.shape[-1]) > self.positions:
            raise ValueError(f"{time} tokens are more than the model's {self.positions} positions: cut them")
        positions = token_positions(tokens, lengths, positions, state)
        mask = None if plain else causal_mask(positions, cache_places(state), documents)
        x = embedding(params["tokens"], tokens) if embedded is None else embedded
        x = linear(params["in"], x) if "in" in params else x
        x = tap("embedded", x + embedding(params["positions"], FIRST + jnp.maximum(positions, 0)))
        block = partial(self.block, positions=positions, mask=mask)
        x, state = decoder_blocks(
            block, x, params["blocks"], positions, state, depth_keys(fold(key, "blocks"), self.layers)
        )
        x = tap("normed", layer_norm(params["norm"], x, EPSILON)) if self.norm_first else x
        return linear(params["out"], x) if "out" in params else x, state

    def half(self, p, name, x, function, key):
        """One half of a block: x + function(norm(x)), or norm(x + function(x))"""
        y = function(layer_norm(p[f"{name}_norm"], x, EPSILON) if self.norm_first else x)
        x = x + dropout(y, self.dropout, fold(key, name))
        return x if self.norm_first else layer_norm(p[f"{name}_norm"], x, EPSILON)

    def block(self, x, p, cache, key, *, positions, mask):
        """x[..., time, embed] -> (x after attention and MLP, cache)"""

        def attend(x):
            nonlocal cache
            parts = (linear(p[name], x) for name in ("query", "key", "value"))
            y, cache = causal_attention(
                *parts, positions, mask, cache, rate=self.dropout, key=fold(key, "attention_weights")
            )
            return tap("attended", linear(p["attention_out"], y, axes=2))

        def mlp(x):
            return linear(p["mlp_out"], tap("hidden", self.activation(linear(p["mlp_in"], x))))

        x = self.half(p, "attention", x, attend, key)
        return tap("block", self.half(p, "mlp", x, mlp, key)), cache

    def logits(self, params, x):
        """[..., table] -> [..., vocab], or [..., labels]"""
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
