"""T5 (Raffel et al. 2019, arXiv:1910.10683), version 1.0 and 1.1."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model, stack
from jann.depth import apply_blocks, depth_keys, scope, tap
from jann.drawing import fold
from jann.layers import (
    cache_places,
    cached_attention,
    causal_attention,
    causal_mask,
    cross_state,
    decoder_blocks,
    decoder_cache,
    dot_product_attention,
    dropout,
    embedding,
    embedding_spec,
    linear,
    linear_spec,
    relative_bucket,
    rms_norm,
    rms_norm_spec,
    source_mask,
    token_positions,
    unembedding,
)

normal = cache(jax.nn.initializers.normal)  # so that equal kernels are drawn by one program


class T5(Model):
    """An encoder and a decoder with relative positions, which one table of each gives to all its blocks.

    decoder_layers:  by default as many as `layers`, those of the encoder; 0 is the encoder alone, which gives features
    gated:           version 1.1: activation(gate) * up, in place of activation(up)
    buckets, furthest:  of the relative positions: exact for the near ones, by the logarithm up to the furthest
    tied:            version 1.0: the table of tokens also gives the logits
    scaled:          of x / sqrt(embed); by default where it is tied
    begin_token:     what a decoder's input begins with
    """

    vocab: int = 32128
    embed: int = 512
    layers: int = 6
    heads: int = 8
    head: int = 64
    hidden: int = 2048
    decoder_layers: int | None = None
    activation: Callable = jax.nn.relu
    gated: bool = False
    buckets: int = 32
    furthest: int = 128
    epsilon: float = 1e-6
    tied: bool = True
    scaled: bool | None = None
    begin_token: int = 0
    dropout: float = 0.0

    def spec(self):
        embed, hidden, norm = {"embed": self.embed}, {"hidden": self.hidden}, rms_norm_spec(self.embed)
        heads, width = {"heads": self.heads, "head": self.head}, self.embed**-0.5
        dense = partial(linear_spec, bias=False)

        def attention(name):
            return {
                f"{name}_norm": norm,
                f"{name}_query": dense(embed, heads, init=normal((self.embed * self.head) ** -0.5)),
                f"{name}_key": dense(embed, heads, init=normal(width)),
                f"{name}_value": dense(embed, heads, init=normal(width)),
                f"{name}_out": dense(heads, embed, init=normal((self.heads * self.head) ** -0.5)),
            }

        mlp = {"mlp_norm": norm, "up": dense(embed, hidden, init=normal(width))}
        mlp |= {"gate": dense(embed, hidden, init=normal(width))} if self.gated else {}
        mlp |= {"down": dense(hidden, embed, init=normal(self.hidden**-0.5))}

        def side(block, layers):
            relative = embedding_spec(self.buckets, self.heads, normal(width))
            return {"relative": relative, "blocks": stack(block, layers=layers), "norm": norm}

        spec = {
            "tokens": embedding_spec(self.vocab, self.embed, normal(1.0)),
            "encoder": side({**attention("self"), **mlp}, self.layers),
        }
        if not self.writers:
            return spec
        spec["decoder"] = side({**attention("self"), **attention("cross"), **mlp}, self.writers)
        return spec if self.tied else {**spec, "head": dense(embed, {"vocab": self.vocab}, init=normal(1.0))}

    @property
    def writers(self) -> int:
        """How many blocks the decoder has."""
        return self.layers if self.decoder_layers is None else self.decoder_layers

    def apply(self, params, inputs, tokens=None, lengths=None, state=None, key=None):
        """inputs[..., source], tokens[..., time] of the decoder -> logits of the token after each [..., time, vocab]

        tokens:   the target behind `begin_token`; None for an encoder alone, which gives features [..., source, embed]
        lengths:  [...], how many of the inputs are there; the rest is padding
        """
        if (tokens is None) == bool(self.writers):
            mend = "give the decoder's tokens too, or call model.encode" if self.writers else "it takes no tokens"
            raise TypeError(f"{self} has {self.writers} blocks in its decoder: {mend}")
        memory = self.encode(params, inputs, lengths, fold(key, "encoder"))
        if not self.writers:
            return memory, state
        x, state = self.features(params, tokens, state=state, memory=memory, sources=lengths, key=fold(key, "decoder"))
        return self.logits(params, x), state

    def encode(self, params, inputs, lengths=None, key=None):
        """inputs[..., source] -> [..., source, embed]"""
        p, places = params["encoder"], jnp.arange(inputs.shape[-1])
        mask = source_mask(inputs.shape[-1], lengths)
        bias = self.relative(p, places[:, None], places[None, :], bidirectional=True)

        def block(x, p, key):
            y = self.normed(p["self_norm"], x)
            query, keys, values = (linear(p[f"self_{name}"], y) for name in ("query", "key", "value"))
            y = dot_product_attention(
                query, keys, values, mask, bias=bias, scale=1.0, rate=self.dropout, key=fold(key, "attention")
            )
            x = x + dropout(linear(p["self_out"], y, axes=2), self.dropout, fold(key, "attended"))
            return tap("block", self.mlp(p, x, key)), None

        with scope("encoder"):
            x = tap("embedded", dropout(embedding(params["tokens"], inputs), self.dropout, fold(key, "embedded")))
            x = apply_blocks(block, x, p["blocks"], depth_keys(fold(key, "blocks"), self.layers))[0]
            return tap("normed", dropout(self.normed(p["norm"], x), self.dropout, fold(key, "normed")))

    def features(self, params, tokens, lengths=None, state=None, memory=None, sources=None, key=None):
        """tokens[..., time] of the decoder -> (what the logits are made of [..., time, embed], state)

        state:  from `begin`; or else memory[..., source, embed] from `encode`, of which `sources` are there
        """
        p = params["decoder"]
        positions = token_positions(tokens, lengths, None, state)
        mask = causal_mask(positions, cache_places(state))
        there = jnp.arange(tokens.shape[-1]) if state is None else jnp.arange(cache_places(state))
        if state is None:
            bias = self.relative(p, there[:, None], there[None, :], bidirectional=False)
            seen = source_mask(memory.shape[-2], sources)
        else:
            there = jax.lax.broadcast_to_rank(there, positions.ndim + 1)
            bias = self.relative(p, positions[..., None], there, bidirectional=False)
            seen = source_mask(state["cross"][0]["key"].shape[-2], state["sources"])

        def block(x, p, cache, cross, key):
            y = self.normed(p["self_norm"], x)
            query, keys, values = (linear(p[f"self_{name}"], y) for name in ("query", "key", "value"))
            y, cache = causal_attention(
                query, keys, values, positions, mask, cache,
                bias=bias, scale=1.0, rate=self.dropout, key=fold(key, "attention"),
            )  # fmt: skip
            x = x + dropout(linear(p["self_out"], y, axes=2), self.dropout, fold(key, "attended"))
            query = linear(p["cross_query"], self.normed(p["cross_norm"], x))
            with scope("cross"):
                if cross is None:
                    keys, values = linear(p["cross_key"], memory), linear(p["cross_value"], memory)
                    y = dot_product_attention(
                        query, keys, values, seen, scale=1.0, rate=self.dropout, key=fold(key, "cross")
                    )
                else:
                    y = cached_attention(query, cross, seen, scale=1.0)
            x = x + dropout(linear(p["cross_out"], y, axes=2), self.dropout, fold(key, "crossed"))
            return tap("block", self.mlp(p, x, key)), cache

        with scope("decoder"):
            x = tap("embedded", dropout(embedding(params["tokens"], tokens), self.dropout, fold(key, "embedded")))
            keys = depth_keys(fold(key, "blocks"), self.writers)
            cross = None if state is None else state["cross"]
            x, state = decoder_blocks(block, x, p["blocks"], positions, state, cross, keys)
            return tap("normed", dropout(self.normed(p["norm"], x), self.dropout, fold(key, "normed"))), state

    def normed(self, p, x):
        return rms_norm(p, x, self.epsilon)

    def mlp(self, p, x, key):
        """x -> x + the (gated) units of its norm"""
        y = self.normed(p["mlp_norm"], x)
        y = self.activation(linear(p["gate"], y)) * linear(p["up"], y) if self.gated else self.activation(
            linear(p["up"], y)
        )  # fmt: skip
        y = linear(p["down"], dropout(tap("hidden", y), self.dropout, fold(key, "hidden")))
        return x + dropout(y, self.dropout, fold(key, "mlp"))

    def relative(self, p, here, there, bidirectional):
        """Positions here[..., time, 1] and there[..., places] -> bias[..., heads, time, places] of the scores"""
        bucket = relative_bucket(there - here, self.buckets, self.furthest, bidirectional)
        return jnp.moveaxis(embedding(p["relative"], bucket), -1, -3)

    def logits(self, params, x):
        """[..., embed] -> [..., vocab]"""
        x = x * self.embed**-0.5 if (self.tied if self.scaled is None else self.scaled) else x
        return unembedding(params["tokens"], x) if self.tied else linear(params["head"], x)

    def begin(self, params, inputs, lengths, places: int, dtype: Any = jnp.float32):
        """inputs[rows, source] -> (the decoder's first tokens [rows, 1], its state with room for `places` tokens)"""
        if not self.writers:
            raise ValueError(f"{self} is an encoder alone: it makes no tokens")
        memory, lead = self.encode(params, inputs, lengths), inputs.shape[:-1]
        state = decoder_cache(self.writers, lead, places, self.heads, self.head, dtype)
        state = cross_state(state, params["decoder"]["blocks"], memory, lengths, dtype)
        return jnp.full((*lead, 1), self.begin_token, jnp.int32), state
