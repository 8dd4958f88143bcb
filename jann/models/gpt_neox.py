"""GPT-NeoX and Pythia (Black et al. 2022, arXiv:2204.06745; Biderman et al. 2023, arXiv:2304.01373)."""

from collections.abc import Callable
from functools import partial
from typing import Any

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
    exact_gelu,
    last_token,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    rotary_frequencies,
    rotated,
    small_normal,
    token_positions,
    unembedding,
    width_normal,
)


class GPTNeoX(Model):
    """A decoder whose blocks attend and widen side by side, with rotary positions on a part of each head.

    hidden:            width inside a block's second half, by default 4 embed
    positions:         how many it was made for; longer inputs are not refused
    parallel:          both halves of a block read its input; else the second reads what the first made
    rotary_share:      of a head's features, the first, that are turned
    rotary_base, rotary_scaling:  see `jann.layers.rotary_frequencies`
    attention_bias:    of the products of attention
    dropout:           rate after the embedding, on attention weights and on what each half of a block adds
    tied:              the table of tokens also gives the logits
    labels:            so many classes of the whole text, told from its last token, in place of the token after each
    """

    vocab: int
    embed: int
    layers: int
    heads: int
    hidden: int | None = None
    positions: int = 2048
    activation: Callable = exact_gelu
    epsilon: float = 1e-5
    parallel: bool = True
    rotary_share: float = 0.25
    rotary_base: float = 10_000.0
    rotary_scaling: tuple = ()
    attention_bias: bool = True
    dropout: float = 0.0
    tied: bool = False
    labels: int = 0

    def spec(self):
        if self.embed % self.heads:
            raise ValueError(f"heads={self.heads} must divide embed={self.embed}")
        head = self.embed // self.heads
        turned = self.turned_features()
        if not 1 <= turned <= head - head % 2:
            raise ValueError(f"rotary_share={self.rotary_share} turns {turned} of a head's {head} features, in pairs")
        embed, hidden = {"embed": self.embed}, {"hidden": self.hidden or 4 * self.embed}
        heads = {"heads": self.heads, "head": head}
        kernel, added = width_normal(self.embed), width_normal(self.embed, self.layers)
        block = {
            "attention_norm": layer_norm_spec(self.embed),
            "qkv": linear_spec(embed, {"qkv": 3, **heads}, self.attention_bias, kernel),
            "attention_out": linear_spec(heads, embed, self.attention_bias, added),
            "mlp_norm": layer_norm_spec(self.embed),
            "mlp_in": linear_spec(embed, hidden, init=kernel),
            "mlp_out": linear_spec(hidden, embed, init=added),
        }
        spec = {
            "tokens": embedding_spec(self.vocab, self.embed),
            "blocks": stack(block, layers=self.layers),
            "norm": layer_norm_spec(self.embed),
        }
        answers = {"labels": self.labels} if self.labels else {"vocab": self.vocab}
        own = self.labels or not self.tied
        return {**spec, "head": linear_spec(embed, answers, False, small_normal)} if own else spec

    def turned_features(self) -> int:
        """Of how many of a head's features the frequencies are; as they are turned in pairs, one more if it is odd."""
        return int(self.embed // self.heads * self.rotary_share)

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
        positions = token_positions(tokens, lengths, positions, state)
        mask = None if plain else causal_mask(positions, cache_places(state), documents)
        frequencies, factor = rotary_frequencies(
            self.turned_features(), self.rotary_base, self.rotary_scaling, positions
        )
        size = 2 * frequencies.shape[-1]

        def turned(x):
            first = rotated(x[..., :size], positions, frequencies, factor)
            return jnp.concatenate([first, x[..., size:]], -1)

        x = embedding(params["tokens"], tokens) if embedded is None else embedded
        x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
        block = partial(self.block, positions=positions, mask=mask, turned=turned)
        keys = depth_keys(fold(key, "blocks"), self.layers)
        x, state = decoder_blocks(block, x, params["blocks"], positions, state, keys)
        return tap("normed", layer_norm(params["norm"], x, self.epsilon)), state

    def block(self, x, p, cache, key, *, positions, mask, turned):
        """x[..., time, embed] -> (x + attention + MLP, cache); turned: the rotation of queries and keys"""
        qkv = linear(p["qkv"], layer_norm(p["attention_norm"], x, self.epsilon))
        query, keys, values = (part.squeeze(-3) for part in jnp.split(qkv, 3, axis=-3))
        y, cache = causal_attention(
            turned(query), turned(keys), values, positions, mask, cache, rate=self.dropout, key=fold(key, "attention")
        )
        y = dropout(tap("attended", linear(p["attention_out"], y, axes=2)), self.dropout, fold(key, "attended"))
        read = x if self.parallel else x + y
        z = self.activation(linear(p["mlp_in"], layer_norm(p["mlp_norm"], read, self.epsilon)))
        z = dropout(linear(p["mlp_out"], tap("hidden", z)), self.dropout, fold(key, "mlp"))
        return tap("block", x + y + z), cache

    def logits(self, params, x):
        """[..., embed] -> [..., vocab], or [..., labels]"""
        if self.tied and not self.labels:
            return unembedding(params["tokens"], x)
        return linear(params["head"], x)

    def cache(self, lead: tuple[int, ...], places: int, dtype: Any = jnp.float32):
        """The state before the first token, with room for `places` tokens in each of the rows of shape `lead`."""
        return decoder_cache(self.layers, lead, places, self.heads, self.embed // self.heads, dtype)
