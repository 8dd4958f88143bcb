"""Llama and those built like it: Llama 1 to 3, Mistral, Qwen 2 and 3; Mixtral and Qwen 3 MoE, mixtures of experts.

Touvron et al. 2023, arXiv:2302.13971 and 2307.09288; Jiang et al. 2023, arXiv:2310.06825; Qwen 2, arXiv:2407.10671;
Jiang et al. 2024, arXiv:2401.04088.
"""

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
    linear,
    linear_spec,
    rms_norm,
    rms_norm_spec,
    rotary_frequencies,
    rotated,
    routed,
    small_normal,
    through_experts,
    token_positions,
    unembedding,
    width_normal,
)


class Llama(Model):
    """A decoder with rotary positions, RMS norms, gated units and shared key-value heads.

    key_value_heads:   each serves heads / key_value_heads heads of the query; by default as many as heads
    head:              features of a head, by default embed / heads
    hidden:            width of the gated unit
    positions:         how many it was made for; longer inputs are not refused
    rotary_base, rotary_scaling:  see `jann.layers.rotary_frequencies`
    window:            how many positions a token sees, 0 is all; one number, or one a layer
    query_key_norm:    RMS norm of each head's query and key (Qwen 3)
    qkv_bias, out_bias, mlp_bias:  which products have biases (Qwen 2: the first)
    tied:              the table of tokens also gives the logits
    labels:            so many classes of the whole text, told from its last token, in place of the token after each
    experts, chosen:   so many gated units a block, of which each token goes through those that its router chooses, see
                       `jann.layers.routed`; 0 experts: one unit for all. The tap "router" has the logits, for
                       `jann.losses.expert_balance`
    chosen_sum_to_one: what is chosen weighs 1 in all (Mixtral)
    """

    vocab: int
    embed: int
    layers: int
    heads: int
    hidden: int
    key_value_heads: int | None = None
    head: int | None = None
    positions: int = 2048
    activation: Callable = jax.nn.silu
    epsilon: float = 1e-6
    rotary_base: float = 10_000.0
    rotary_scaling: tuple = ()
    window: int | tuple[int, ...] = 0
    query_key_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    tied: bool = False
    dropout: float = 0.0
    labels: int = 0
    experts: int = 0
    chosen: int = 2
    chosen_sum_to_one: bool = True

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
        block = {
            "attention_norm": rms_norm_spec(self.embed),
            "query": linear_spec(embed, heads, self.qkv_bias, kernel),
            "key": linear_spec(embed, pairs, self.qkv_bias, kernel),
            "value": linear_spec(embed, pairs, self.qkv_bias, kernel),
            "attention_out": linear_spec(heads, embed, self.out_bias, kernel),
            "mlp_norm": rms_norm_spec(self.embed),
        }
        unit = {
            "gate": linear_spec(embed, hidden, self.mlp_bias, kernel),
            "up": linear_spec(embed, hidden, self.mlp_bias, kernel),
            "down": linear_spec(hidden, embed, self.mlp_bias, kernel),
        }
        if self.experts:
            router = linear_spec(embed, {"experts": self.experts}, False, kernel)
            block |= {"router": router, "experts": stack(unit, experts=self.experts)}
        else:
            block |= unit
        if self.query_key_norm:
            block |= {"query_norm": rms_norm_spec(head), "key_norm": rms_norm_spec(head)}
        spec = {
            "tokens": embedding_spec(self.vocab, self.embed),
            "blocks": stack(block, layers=self.layers),
            "norm": rms_norm_spec(self.embed),
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
        frequencies, factor = rotary_frequencies(self.sizes()[1], self.rotary_base, self.rotary_scaling, positions)
        turned = partial(rotated, positions=positions, frequencies=frequencies, factor=factor)

        def block(x, p, cache, window, key):
            return self.block(x, p, cache, key, positions, mask if window is None else seen(window=window), turned)

        x = embedding(params["tokens"], tokens) if embedded is None else embedded
        x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
        keys = depth_keys(fold(key, "blocks"), self.layers)
        x, state = decoder_blocks(block, x, params["blocks"], positions, state, windows, keys)
        return tap("normed", rms_norm(params["norm"], x, self.epsilon)), state

    def block(self, x, p, cache, key, positions, mask, turned):
        """x[..., time, embed] -> (x + attention + gated units, cache); turned: the rotation of queries and keys"""
        y = rms_norm(p["attention_norm"], x, self.epsilon)
        query, keys, values = (linear(p[name], y) for name in ("query", "key", "value"))
        if self.query_key_norm:
            query, keys = rms_norm(p["query_norm"], query, self.epsilon), rms_norm(p["key_norm"], keys, self.epsilon)
        y, cache = causal_attention(
            turned(query), turned(keys), values, positions, mask, cache, rate=self.dropout, key=fold(key, "attention")
        )
        y = linear(p["attention_out"], y, axes=2)
        x = x + dropout(tap("attended", y), self.dropout, fold(key, "attended"))
        y = self.mlp(p, rms_norm(p["mlp_norm"], x, self.epsilon))
        return tap("block", x + dropout(y, self.dropout, fold(key, "mlp"))), cache

    def mlp(self, p, x):
        """x[..., embed] -> the gated unit, or the weighted sum of the chosen experts', [..., embed]"""
        if not self.experts:
            return linear(p["down"], tap("hidden", self.unit(p, x)))
        indices, weights = routed(tap("router", linear(p["router"], x)), self.chosen, self.chosen_sum_to_one)
        return through_experts(lambda p, x: linear(p["down"], self.unit(p, x)), p["experts"], x, indices, weights)

    def unit(self, p, x):
        """x[..., embed] -> [..., hidden]"""
        return self.activation(linear(p["gate"], x)) * linear(p["up"], x)

    def logits(self, params, x):
        """[..., embed] -> [..., vocab], or [..., labels]"""
        if self.tied and not self.labels:
            return unembedding(params["tokens"], x)
        return linear(params["head"], x)

    def cache(self, lead: tuple[int, ...], places: int, dtype: Any = jnp.float32):
        """The state before the first token, with room for `places` tokens in each of the rows of shape `lead`."""
        return decoder_cache(self.layers, lead, places, *self.sizes(), dtype)
