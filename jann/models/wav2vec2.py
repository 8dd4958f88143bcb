"""wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477): speech heard as a wave, and its letters."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jann.core import Model, Param, stack
from jann.depth import apply_blocks, depth_keys, tap
from jann.drawing import fold
from jann.layers import (
    conv,
    conv_spec,
    dot_product_attention,
    dropout,
    exact_gelu,
    group_norm,
    group_norm_spec,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    source_mask,
    width_normal,
)
from jann.layers.dtypes import along, wide_dtype
from jann.layers.initializers import constant, normal

EPSILON = 1e-5  # of the norms behind convolutions


class Wav2Vec2(Model):
    """Convolutions make frames of the wave, a Transformer's encoder looks at them, a head tells the letter of each.

        model, params = jann.from_pretrained(folder)                        # of facebook/wav2vec2-base-960h, say
        logits = model(params, jann.data.speech_waveform(audio, 16_000))
        letters = jann.data.ctc_decode(logits, model.blank)
        loss = jann.losses.ctc_loss(logits, labels, blank=model.blank)      # to train it further

    vocab:            letters, among them the blank of CTC; 0 gives the features [..., frames, embed] in place of logits
    channels:         of each convolution; windows, strides: theirs, in samples, then in frames of the one before
    conv_norm:        "group": each channel of the first convolution is normalised over time; "layer": each frame of
                      every convolution over its channels
    conv_activation:  of the convolutions, also of that which tells positions
    position_window:  frames that the convolution of positions sees, and its groups
    norm_first:       a block's halves normalise what they take ("stable" in published configurations), not what they
                      give
    mask_token:       there is a vector in place of frames that are masked, see `apply`
    blank:            the letter that says nothing
    """

    vocab: int = 32
    channels: tuple[int, ...] = (512,) * 7
    windows: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    conv_norm: str = "group"
    conv_activation: Callable = exact_gelu
    embed: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    position_window: int = 128
    position_groups: int = 16
    norm_first: bool = False
    activation: Callable = exact_gelu
    epsilon: float = 1e-5
    dropout: float = 0.0
    mask_token: bool = False
    blank: int = 0

    def __post_init__(self):
        if not len(self.channels) == len(self.windows) == len(self.strides) > 0:
            raise ValueError(
                "Wav2Vec2 needs a window and a stride for each convolution, got "
                f"channels={self.channels}, windows={self.windows}, strides={self.strides}"
            )
        if self.conv_norm not in ("group", "layer"):
            raise ValueError(f"Wav2Vec2.conv_norm must be group or layer, got {self.conv_norm!r}")

    def spec(self):
        if self.embed % self.heads:
            raise ValueError(f"heads={self.heads} must divide embed={self.embed}")
        convs, before = [], 1
        for i, (channels, window) in enumerate(zip(self.channels, self.windows, strict=True)):
            layer = {"conv": conv_spec(before, channels, (window,), bias=self.conv_bias)}
            if self.conv_norm == "layer" or not i:
                layer["norm"] = (layer_norm_spec if self.conv_norm == "layer" else group_norm_spec)(channels)
            convs.append(layer)
            before = channels
        embed, hidden, norm = {"embed": self.embed}, {"hidden": self.hidden}, layer_norm_spec(self.embed)
        heads = {"heads": self.heads, "head": self.embed // self.heads}
        dense = partial(linear_spec, init=width_normal(self.embed))
        block = {
            **{name: dense(embed, heads) for name in ("query", "key", "value")},
            "attention_out": dense(heads, embed),
            "attention_norm": norm,
            "mlp_in": dense(embed, hidden),
            "mlp_out": dense(hidden, embed),
            "mlp_norm": norm,
        }
        deviation = 2 / math.sqrt(self.position_window * self.embed)
        positions = conv_spec(
            self.embed, self.embed, (self.position_window,), self.position_groups, init=normal(deviation)
        )
        length = deviation * self.embed / math.sqrt(self.position_groups)  # of what is drawn so, about
        spec = {
            "convs": convs,
            "convs_norm": layer_norm_spec(before),
            "frames": dense(before, self.embed),
            "positions": {**positions, "scale": Param({"window": self.position_window}, constant(length))},
            "norm": norm,
            "blocks": stack(block, layers=self.layers),
        }
        if self.mask_token:
            spec["masked"] = Param(embed, jax.nn.initializers.uniform(1.0))
        if self.vocab:
            spec["head"] = dense(self.embed, self.vocab)
        return spec

    def apply(self, params, audio, lengths=None, masked=None, state=None, key=None):
        """audio[..., samples], from `jann.data.speech_waveform` -> logits[..., frames, vocab]

        lengths:  [...], samples of each that are there; of the frames, `frames(lengths)` then count. With
                  conv_norm="group" all samples are normalised over, as in the published models: what is followed by
                  more padding sounds a little different to these.
        masked:   [..., frames], true where a frame is hidden, with `mask_token`
        """
        x = self.features(params, audio, lengths, masked, key)
        if not self.vocab:
            return x, state
        return linear(params["head"], dropout(x, self.dropout, fold(key, "head"))), state

    @property
    def smallest(self) -> int:
        """How many samples make one frame."""
        samples = 1
        for window, stride in zip(reversed(self.windows), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + window
        return samples

    def frames(self, samples):
        """How many frames so many samples make, a number or an array of them."""
        samples = samples if isinstance(samples, int) else jnp.asarray(samples, jnp.int32)  # 8 bits hold few samples
        for window, stride in zip(self.windows, self.strides, strict=True):
            samples = (samples - window) // stride + 1
        return max(samples, 0) if isinstance(samples, int) else jnp.maximum(samples, 0)

    def features(self, params, audio, lengths=None, masked=None, key=None):
        """audio[..., samples] -> [..., frames, embed]"""
        audio, lengths = self._checked(audio, lengths)
        x = tap("extracted", layer_norm(params["convs_norm"], self.extracted(params, audio), self.epsilon))
        x = dropout(linear(params["frames"], x), self.dropout, fold(key, "frames"))
        if masked is not None and not self.mask_token:
            raise ValueError("masked frames need a vector in their place: build the model with mask_token=True")
        if masked is not None:
            x = jnp.where(jnp.asarray(masked, bool)[..., None], along(params["masked"], x), x)
        mask = source_mask(x.shape[-2], None if lengths is None else self.frames(lengths))
        if mask is not None:
            x = jnp.where(mask[..., 0, 0, :, None], x, 0)
        x = x + self.positions(params["positions"], x)
        x = x if self.norm_first else layer_norm(params["norm"], x, self.epsilon)
        x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
        block, keys = partial(self.block, mask=mask), depth_keys(fold(key, "blocks"), self.layers)
        x = apply_blocks(block, x, params["blocks"], keys)[0]
        return tap("normed", layer_norm(params["norm"], x, self.epsilon)) if self.norm_first else x

    def extracted(self, params, audio):
        """audio[..., samples] -> [..., frames, channels[-1]], about the last 25 ms each in the published models"""
        x = audio[..., None]
        for p, stride in zip(params["convs"], self.strides, strict=True):
            x = conv(p["conv"], x, stride, padding="valid")
            if "norm" in p and self.conv_norm == "group":
                x = group_norm(p["norm"], x, groups=x.shape[-1], dims=1, epsilon=EPSILON)
            elif "norm" in p:
                x = layer_norm(p["norm"], x, EPSILON)
            x = self.conv_activation(x)
        return x

    def positions(self, p, x):
        """x[..., frames, embed] -> what a convolution tells of their places, [..., frames, embed]

        Its kernel is scale v / |v| at each place of the window (Salimans and Kingma 2016, arXiv:1602.07868).
        """
        v = p["weight"].astype(wide_dtype(p["weight"]))
        weight = v * (p["scale"].astype(v.dtype)[:, None, None] / jnp.sqrt(jnp.square(v).sum((1, 2), keepdims=True)))
        before, after = self.position_window // 2, (self.position_window - 1) // 2
        y = conv({"weight": weight, "bias": p["bias"]}, x, padding=((before, after),), groups=self.position_groups)
        return self.conv_activation(y)

    def block(self, x, p, key, mask):
        """x[..., frames, embed] -> x + attention + MLP, each with its norm"""

        def attend(x):
            query, keys, values = (linear(p[name], x) for name in ("query", "key", "value"))
            y = dot_product_attention(query, keys, values, mask, rate=self.dropout, key=fold(key, "attention"))
            return dropout(linear(p["attention_out"], y, axes=2), self.dropout, fold(key, "attended"))

        def mlp(x):
            y = tap("hidden", self.activation(linear(p["mlp_in"], x)))
            y = linear(p["mlp_out"], dropout(y, self.dropout, fold(key, "hidden")))
            return dropout(y, self.dropout, fold(key, "mlp"))

        for name, half in (("attention", attend), ("mlp", mlp)):
            norm = partial(layer_norm, p[f"{name}_norm"], epsilon=self.epsilon)
            x = x + half(norm(x)) if self.norm_first else norm(x + half(x))
        return tap("block", x), None

    def _checked(self, audio, lengths):
        audio = jnp.asarray(audio)
        if not jnp.issubdtype(audio.dtype, jnp.floating):
            raise TypeError(f"audio is {audio.dtype}: jann.data.speech_waveform(audio, rate) makes what is heard")
        if not audio.ndim or audio.shape[-1] < self.smallest:
            raise ValueError(
                f"audio[..., samples] of at least {self.smallest} samples wanted, got {list(audio.shape)}: follow it "
                "with zeros, and give lengths"
            )
        if lengths is not None and jnp.shape(lengths) != audio.shape[:-1]:
            raise ValueError(
                f"lengths {list(jnp.shape(lengths))} for audio {list(audio.shape)}: {list(audio.shape[:-1])} wanted"
            )
        return audio, None if lengths is None else jnp.asarray(lengths)
