"""Whisper (Radford et al. 2022, arXiv:2212.04356): speech to text, in the language spoken or in English."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from jann.core import Model, Param, stack
from jann.depth import apply_blocks, depth_keys, scope, tap
from jann.drawing import fold
from jann.layers import (
    cache_places,
    cached_attention,
    causal_attention,
    causal_mask,
    conv,
    conv_spec,
    cross_state,
    decoder_blocks,
    decoder_cache,
    dot_product_attention,
    dropout,
    embedding,
    embedding_spec,
    exact_gelu,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    sinusoidal,
    small_normal,
    token_positions,
    unembedding,
    width_normal,
)
from jann.layers.dtypes import along

EPSILON = 1e-5


class Whisper(Model):
    """An encoder hears a spectrogram, a decoder writes its words one token after another while it listens.

        model, params = jann.from_pretrained(folder)                       # of openai/whisper-base, say
        tokenizer = jann.data.load_tokenizer(folder)
        model = dataclasses.replace(model, begin_tokens=jann.pretrained.speech_tokens(tokenizer, "en"))
        heard = jann.data.speech_spectrogram(audio, 16_000)                # [3000, 80], of 30 seconds
        options = jann.pretrained.generation_options(folder)               # what ends a text, what is never written
        made = jann.generation.generate(model, params, [heard], 200, **options)

    bands:           of the spectrogram
    places:          frames of the encoder, half as many as the spectrogram has: always all, of 30 seconds
    positions:       how many tokens it can write
    begin_tokens:    what a decoder's input begins with: the start, a language, what to do (transcribe or translate)
    """

    vocab: int = 51_865
    bands: int = 80
    embed: int = 384
    layers: int = 4
    heads: int = 6
    hidden: int = 1536
    decoder_layers: int | None = None
    places: int = 1500
    positions: int = 448
    activation: Callable = exact_gelu
    begin_tokens: tuple[int, ...] = (50_257,)
    dropout: float = 0.0

    def spec(self):
        if self.embed % (2 * self.heads):
            raise ValueError(f"heads={self.heads} must divide embed={self.embed} into even parts")
        embed, hidden, norm = {"embed": self.embed}, {"hidden": self.hidden}, layer_norm_spec(self.embed)
        heads = {"heads": self.heads, "head": self.embed // self.heads}
        dense = partial(linear_spec, init=width_normal(self.embed))

        def attention(name):
            parts = {f"{name}_{part}": dense(embed, heads, part != "key") for part in ("query", "key", "value")}
            return {**parts, f"{name}_out": dense(heads, embed), f"{name}_norm": norm}

        mlp = {"mlp_in": dense(embed, hidden), "mlp_out": dense(hidden, embed), "mlp_norm": norm}
        encoder, decoder = {**attention("self"), **mlp}, {**attention("self"), **attention("cross"), **mlp}
        return {
            "encoder": {
                "conv1": conv_spec(self.bands, self.embed, (3,)),
                "conv2": conv_spec(self.embed, self.embed, (3,)),
                "positions": Param({"places": self.places, **embed}, sinusoids),
                "blocks": stack(encoder, layers=self.layers),
                "norm": norm,
            },
            "decoder": {
                "tokens": embedding_spec(self.vocab, self.embed),
                "positions": embedding_spec(self.positions, self.embed, small_normal),
                "blocks": stack(decoder, layers=self.decoder_layers or self.layers),
                "norm": norm,
            },
        }

    def apply(self, params, spectrogram, tokens, state=None, key=None):
        """spectrogram[..., 2 places, bands], tokens[..., time] of the decoder -> logits of the token after each

        tokens:  the text behind `begin_tokens`; logits[..., time, vocab]
        """
        memory = self.encode(params, spectrogram, fold(key, "encoder"))
        x, state = self.features(params, tokens, state=state, memory=memory, key=fold(key, "decoder"))
        return self.logits(params, x), state

    def half(self, p, name, x, function, key):
        """One half of a block: x + function(norm(x))"""
        y = function(layer_norm(p[f"{name}_norm"], x, EPSILON))
        return x + dropout(y, self.dropout, fold(key, name))

    def mlp(self, p, x):
        return linear(p["mlp_out"], tap("hidden", self.activation(linear(p["mlp_in"], x))))

    def encode(self, params, spectrogram, key=None):
        """spectrogram[..., 2 places, bands] -> [..., places, embed]"""
        if spectrogram.shape[-2:] != (2 * self.places, self.bands):
            raise ValueError(
                f"a spectrogram [..., {2 * self.places}, {self.bands}] wanted, got {list(spectrogram.shape)}: fill "
                "it with silence, as jann.data.speech_spectrogram does"
            )
        p = params["encoder"]

        def block(x, p, key):
            def attend(x):
                query, keys, values = (linear(p[f"self_{part}"], x) for part in ("query", "key", "value"))
                y = dot_product_attention(query, keys, values, rate=self.dropout, key=fold(key, "attention"))
                return linear(p["self_out"], y, axes=2)

            x = self.half(p, "self", x, attend, key)
            return tap("block", self.half(p, "mlp", x, partial(self.mlp, p), key)), None

        with scope("encoder"):
            x = exact_gelu(conv(p["conv1"], spectrogram, padding=1))
            x = exact_gelu(conv(p["conv2"], x, stride=2, padding=1))
            x = x + along(p["positions"], x)
            x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
            x = apply_blocks(block, x, p["blocks"], depth_keys(fold(key, "blocks"), self.layers))[0]
            return tap("normed", layer_norm(p["norm"], x, EPSILON))

    def features(self, params, tokens, lengths=None, state=None, memory=None, key=None):
        """tokens[..., time] of the decoder -> (what the logits are made of [..., time, embed], state)

        state:  from `begin`; or else memory[..., places, embed] from `encode`
        """
        p, layers = params["decoder"], self.decoder_layers or self.layers
        if state is None and tokens.shape[-1] > self.positions:
            raise ValueError(f"{tokens.shape[-1]} tokens are more than the model's {self.positions} positions")
        positions = token_positions(tokens, lengths, None, state)
        mask = causal_mask(positions, cache_places(state))

        def block(x, p, cache, cross, key):
            remembered = cache

            def attend(x):
                nonlocal remembered
                query, keys, values = (linear(p[f"self_{part}"], x) for part in ("query", "key", "value"))
                y, remembered = causal_attention(
                    query, keys, values, positions, mask, cache, rate=self.dropout, key=fold(key, "attention")
                )
                return linear(p["self_out"], y, axes=2)

            def listen(x):
                query = linear(p["cross_query"], x)
                with scope("cross"):
                    if cross is not None:
                        y = cached_attention(query, cross, jnp.ones((1, 1, 1), bool))
                    else:
                        keys, values = linear(p["cross_key"], memory), linear(p["cross_value"], memory)
                        y = dot_product_attention(query, keys, values, rate=self.dropout, key=fold(key, "looking"))
                return linear(p["cross_out"], y, axes=2)

            x = self.half(p, "self", x, attend, key)
            x = self.half(p, "cross", x, listen, key)
            return tap("block", self.half(p, "mlp", x, partial(self.mlp, p), key)), remembered

        with scope("decoder"):
            x = embedding(p["tokens"], tokens) + embedding(p["positions"], jnp.maximum(positions, 0))
            x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
            cross, keys = None if state is None else state["cross"], depth_keys(fold(key, "blocks"), layers)
            x, state = decoder_blocks(block, x, p["blocks"], positions, state, cross, keys)
            return tap("normed", layer_norm(p["norm"], x, EPSILON)), state

    def logits(self, params, x):
        """[..., embed] -> [..., vocab]"""
        return unembedding(params["decoder"]["tokens"], x)

    @property
    def limit(self) -> int:
        """The most tokens that it can write."""
        return self.positions

    def inputs(self, spectrograms):
        """Spectrograms, a list or [rows, 2 places, bands] -> ([rows, 2 places, bands] in float32, a 1 for each)

        Raises ValueError naming the one that has another shape or values that are not finite.
        """
        rows, wanted = [np.asarray(row, np.float32) for row in spectrograms], (2 * self.places, self.bands)
        for i, row in enumerate(rows):
            if row.shape != wanted:
                raise ValueError(
                    f"spectrogram {i} is {list(row.shape)}, wanted {list(wanted)} [frames, bands]: make it with "
                    "jann.data.speech_spectrogram(audio, rate)"
                )
            if not np.isfinite(row).all():
                raise ValueError(f"spectrogram {i} has values that are not finite")
        if not rows:
            raise ValueError("there is no spectrogram: give a list of them")
        return np.stack(rows), np.ones(len(rows), np.int32)

    def begin(self, params, inputs, lengths, places: int, dtype: Any = jnp.float32):
        """inputs[rows, 2 places, bands] -> (the decoder's first tokens [rows, n], its state with room for `places`)"""
        memory, lead = self.encode(params, inputs), inputs.shape[:1]
        layers, head = self.decoder_layers or self.layers, self.embed // self.heads
        state = decoder_cache(layers, lead, places, self.heads, head, dtype)
        state = cross_state(state, params["decoder"]["blocks"], memory, None, dtype)
        return jnp.broadcast_to(jnp.array(self.begin_tokens, jnp.int32), (*lead, len(self.begin_tokens))), state


def sinusoids(key, shape, dtype=jnp.float32):
    """How the encoder's positions start: each frame's `sinusoidal`, [places, embed]"""
    return sinusoidal(np.arange(shape[0]), shape[1], inclusive=True).astype(dtype)
