"""The Transformer (Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762).

Marian's translators (Junczys-Dowmunt et al. 2018, arXiv:1804.00344) and BART (Lewis et al. 2019, arXiv:1910.13461) are
built like it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model, Param, stack
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
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    sinusoidal,
    source_mask,
    token_positions,
    unembedding,
)
from jann.layers.dtypes import along

xavier = jax.nn.initializers.xavier_uniform()


class Transformer(Model):
    """An encoder reads the source, a decoder writes the target one token after another while it looks at both.

    Positions are the paper's sinusoids, but all sines before all cosines: a matter of order, until weights come from a
    network in which they alternate.

    vocab:        tokens of source and target together; one table embeds both and gives the logits
    norm_first:   norms before each half of a block, as most do since, instead of after it as in the paper
    begin_token:  what a decoder's input begins with
    scaled:       rows of the table are multiplied by sqrt(embed)
    positions:    learned ones, so many, in place of sinusoids (BART); first_position: rows of their table before the
                  first, which are not used
    embedded_norm:  a norm of what is embedded (BART)
    logits_bias:  of the logits (Marian's and BART's files carry one)
    """

    vocab: int
    embed: int = 512
    layers: int = 6
    heads: int = 8
    hidden: int = 2048
    decoder_layers: int | None = None
    activation: Callable = jax.nn.relu
    norm_first: bool = False
    epsilon: float = 1e-6
    begin_token: int = 1
    dropout: float = 0.0
    scaled: bool = True
    positions: int = 0
    first_position: int = 0
    embedded_norm: bool = False
    logits_bias: bool = False

    def spec(self):
        if self.embed % (2 * self.heads):
            raise ValueError(f"heads={self.heads} must divide embed={self.embed} into even parts")
        embed, hidden, norm = {"embed": self.embed}, {"hidden": self.hidden}, layer_norm_spec(self.embed)
        heads = {"heads": self.heads, "head": self.embed // self.heads}
        dense = partial(linear_spec, init=xavier)

        def attention(name):
            parts = {f"{name}_{part}": dense(embed, heads) for part in ("query", "key", "value")}
            return {**parts, f"{name}_out": dense(heads, embed), f"{name}_norm": norm}

        mlp = {"mlp_in": dense(embed, hidden), "mlp_out": dense(hidden, embed), "mlp_norm": norm}
        encoder = {**attention("self"), **mlp}
        decoder = {**attention("self"), **attention("cross"), **mlp}
        around = {"norm": norm} if self.norm_first else {}
        around |= {"embedded_norm": norm} if self.embedded_norm else {}
        if self.positions:
            around["positions"] = embedding_spec(self.first_position + self.positions, self.embed)
        spec = {
            "tokens": embedding_spec(self.vocab, self.embed, jax.nn.initializers.normal(self.embed**-0.5)),
            "encoder": {"blocks": stack(encoder, layers=self.layers), **around},
            "decoder": {"blocks": stack(decoder, layers=self.decoder_layers or self.layers), **around},
        }
        return {**spec, "logits": {"bias": Param({"vocab": self.vocab})}} if self.logits_bias else spec

    def apply(self, params, inputs, tokens, lengths=None, state=None, key=None):
        """inputs[..., source], tokens[..., time] of the decoder -> logits of the token after each [..., time, vocab]

        tokens:   the target behind `begin_token`
        lengths:  [...], how many of the inputs are there; the rest is padding
        """
        memory = self.encode(params, inputs, lengths, fold(key, "encoder"))
        x, state = self.features(params, tokens, state=state, memory=memory, sources=lengths, key=fold(key, "decoder"))
        return self.logits(params, x), state

    def embedded(self, params, side, tokens, positions, key):
        """tokens, positions[..., time] of the encoder or decoder -> rows of the table, and what stands for positions"""
        x = embedding(params["tokens"], tokens)
        x = x * self.embed**0.5 if self.scaled else x
        if self.positions:
            x = x + embedding(params[side]["positions"], self.first_position + positions)
        else:
            x = x + sinusoidal(positions, self.embed).astype(x.dtype)
        if self.embedded_norm:
            x = layer_norm(params[side]["embedded_norm"], x, self.epsilon)
        return tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))

    def half(self, p, name, x, function, key):
        """One half of a block: x + function(x), with a norm after it, or before function"""
        norm = partial(layer_norm, p[f"{name}_norm"], epsilon=self.epsilon)
        y = dropout(function(norm(x) if self.norm_first else x), self.dropout, fold(key, name))
        return x + y if self.norm_first else norm(x + y)

    def mlp(self, p, x):
        return linear(p["mlp_out"], tap("hidden", self.activation(linear(p["mlp_in"], x))))

    def encode(self, params, inputs, lengths=None, key=None):
        """inputs[..., source] -> [..., source, embed]"""
        if lengths is None:
            self.check_length(inputs.shape[-1])
        p, mask = params["encoder"], source_mask(inputs.shape[-1], lengths)
        positions = jnp.maximum(token_positions(inputs, lengths), 0)  # padding may reach further than there are any

        def block(x, p, key):
            def attend(x):
                query, keys, values = (linear(p[f"self_{part}"], x) for part in ("query", "key", "value"))
                y = dot_product_attention(query, keys, values, mask, rate=self.dropout, key=fold(key, "attention"))
                return linear(p["self_out"], y, axes=2)

            x = self.half(p, "self", x, attend, key)
            return tap("block", self.half(p, "mlp", x, partial(self.mlp, p), key)), None

        with scope("encoder"):
            x = self.embedded(params, "encoder", inputs, positions, key)
            x = apply_blocks(block, x, p["blocks"], depth_keys(fold(key, "blocks"), self.layers))[0]
            return tap("normed", layer_norm(p["norm"], x, self.epsilon) if self.norm_first else x)

    def features(self, params, tokens, lengths=None, state=None, memory=None, sources=None, key=None):
        """tokens[..., time] of the decoder -> (what the logits are made of [..., time, embed], state)

        state:  from `begin`; or else memory[..., source, embed] from `encode`, of which `sources` are there
        """
        if state is None:
            self.check_length(tokens.shape[-1])
        p, layers = params["decoder"], self.decoder_layers or self.layers
        positions = token_positions(tokens, lengths, None, state)
        mask = causal_mask(positions, cache_places(state))
        if state is None:
            seen = source_mask(memory.shape[-2], sources)
        else:
            seen = source_mask(state["cross"][0]["key"].shape[-2], state["sources"])

        def block(x, p, cache, cross, key):
            remembered = cache

            def attend(x):
                nonlocal remembered
                query, keys, values = (linear(p[f"self_{part}"], x) for part in ("query", "key", "value"))
                y, remembered = causal_attention(
                    query, keys, values, positions, mask, cache, rate=self.dropout, key=fold(key, "attention")
                )
                return linear(p["self_out"], y, axes=2)

            def look(x):
                query = linear(p["cross_query"], x)
                with scope("cross"):
                    if cross is not None:
                        y = cached_attention(query, cross, seen)
                    else:
                        keys, values = linear(p["cross_key"], memory), linear(p["cross_value"], memory)
                        y = dot_product_attention(
                            query, keys, values, seen, rate=self.dropout, key=fold(key, "looking")
                        )
                return linear(p["cross_out"], y, axes=2)

            x = self.half(p, "self", x, attend, key)
            x = self.half(p, "cross", x, look, key)
            return tap("block", self.half(p, "mlp", x, partial(self.mlp, p), key)), remembered

        with scope("decoder"):
            x = self.embedded(params, "decoder", tokens, jnp.maximum(positions, 0), key)
            cross = None if state is None else state["cross"]
            keys = depth_keys(fold(key, "blocks"), layers)
            x, state = decoder_blocks(block, x, p["blocks"], positions, state, cross, keys)
            return tap("normed", layer_norm(p["norm"], x, self.epsilon) if self.norm_first else x), state

    def logits(self, params, x):
        """[..., embed] -> [..., vocab]"""
        x = unembedding(params["tokens"], x)
        return x + along(params["logits"]["bias"], x) if self.logits_bias else x

    @property
    def limit(self) -> int | None:
        """The most tokens that it can read or write; None: any number."""
        return self.positions or None

    def check_length(self, time: int) -> None:
        if self.positions and time > self.positions:
            raise ValueError(f"{time} tokens are more than the model's {self.positions} positions: cut them")

    def begin(self, params, inputs, lengths, places: int, dtype: Any = jnp.float32):
        """inputs[rows, source] -> (the decoder's first tokens [rows, 1], its state with room for `places` tokens)"""
        memory, lead = self.encode(params, inputs, lengths), inputs.shape[:-1]
        state = decoder_cache(
            self.decoder_layers or self.layers, lead, places, self.heads, self.embed // self.heads, dtype
        )
        state = cross_state(state, params["decoder"]["blocks"], memory, lengths, dtype)
        return jnp.full((*lead, 1), self.begin_token, jnp.int32), state
