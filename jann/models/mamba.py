"""Mamba (Gu and Dao 2023, arXiv:2312.00752): a decoder whose blocks carry a state along in place of attending."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jann.core import Model, Param, stack
from jann.depth import apply_blocks, depth_keys, tap
from jann.drawing import fold
from jann.layers import (
    dropout,
    embedding,
    embedding_spec,
    linear,
    linear_spec,
    ones,
    rms_norm,
    rms_norm_spec,
    selective_scan,
    small_normal,
    token_positions,
    unembedding,
    width_normal,
)
from jann.layers.dtypes import along, wide_dtype
from jann.trees import Tree, unstacked

FIRST_STEPS = 1e-3, 1e-1  # the shortest and the longest


class Mamba(Model):
    """What a block has read is in a state of one size, so that each further token takes the same time and memory.

    inner:             width inside a block, by default 2 embed
    state:             numbers that each feature inside a block carries along
    window:            tokens that a block's convolution sees, the present one and those before
    rank:              of the product that gives the steps, by default embed / 16, rounded up
    activation:        behind the convolution; the gate's is silu
    bias, conv_bias:   of the products of a block, and of its convolution
    dropout:           rate after the embedding and on what each block adds
    tied:              the table of tokens also gives the logits
    """

    vocab: int = 50_280
    embed: int = 768
    layers: int = 24
    inner: int | None = None
    state: int = 16
    window: int = 4
    rank: int | None = None
    activation: Callable = jax.nn.silu
    epsilon: float = 1e-5
    bias: bool = False
    conv_bias: bool = True
    dropout: float = 0.0
    tied: bool = True

    def spec(self):
        embed, inner = {"embed": self.embed}, {"inner": self.inside()}
        rank = self.ranks()
        conv = {"weight": Param({"window": self.window, **inner}, uniform, into=("window",))}
        block = {
            "norm": rms_norm_spec(self.embed),
            "in": linear_spec(embed, {"parts": 2, **inner}, self.bias, width_normal(self.embed)),
            "conv": {**conv, "bias": Param(inner)} if self.conv_bias else conv,
            "selected": linear_spec(inner, {"selected": rank + 2 * self.state}, False),
            "step": {
                "weight": Param({"rank": rank, **inner}, uniform, into=("rank",)),
                "bias": Param(inner, first_steps),
            },
            "log_decay": Param({**inner, "state": self.state}, counted),
            "skip": Param(inner, ones),
            "out": linear_spec(inner, embed, self.bias, width_normal(self.embed, self.layers)),
        }
        spec = {
            "tokens": embedding_spec(self.vocab, self.embed, small_normal),
            "blocks": stack(block, layers=self.layers),
            "norm": rms_norm_spec(self.embed),
        }
        head = {} if self.tied else {"head": linear_spec(embed, {"vocab": self.vocab}, False, small_normal)}
        return {**spec, **head}

    def inside(self) -> int:
        """The width inside a block."""
        return self.inner or 2 * self.embed

    def ranks(self) -> int:
        """The rank of the product that gives the steps."""
        return self.rank or -(-self.embed // 16)

    def apply(self, params, tokens, lengths=None, positions=None, documents=None, state=None, key=None):
        """tokens[..., time] -> logits of the token after each, [..., time, vocab]

        lengths:    [...], how many tokens of each row are there; the rest is padding, which changes no state
        positions:  [..., time], which count only where they are -1, padding
        documents:  [..., time], without a state: tokens see only those of the same number (several packed in a row)
        state:      from `cache`: then tokens go on from those before, and the state holds them too
        """
        x, state = self.features(params, tokens, lengths, positions, documents, state, key)
        return self.logits(params, x), state

    def features(
        self, params, tokens, lengths=None, positions=None, documents=None, state=None, key=None, embedded=None
    ):
        """tokens[..., time] -> (what the logits are made of [..., time, embed], state)

        embedded:  [..., time, embed] in place of the tokens' rows of the table, as in prompt tuning
        """
        if documents is not None and state is not None:
            raise ValueError("documents are told apart without a state only: read one after another")
        padded = lengths is not None or positions is not None
        there = token_positions(tokens, lengths, positions) >= 0 if padded else None
        x = embedding(params["tokens"], tokens) if embedded is None else embedded
        x = tap("embedded", dropout(x, self.dropout, fold(key, "embedded")))
        block = partial(self.block, lengths=lengths, there=there, documents=documents)
        keys = depth_keys(fold(key, "blocks"), self.layers)
        x, mixers = apply_blocks(block, x, params["blocks"], None if state is None else state["mixers"], keys)
        x = tap("normed", rms_norm(params["norm"], x, self.epsilon))
        if state is None:
            return x, None
        mixers = mixers if isinstance(mixers, list) else unstacked(mixers)
        read = tokens.shape[-1] if lengths is None else jnp.asarray(lengths, jnp.int32)
        return x, {"mixers": mixers, "length": state["length"] + read}

    def block(self, x, p, state, key, *, lengths, there, documents):
        """x[..., time, embed] -> (x + what is kept of the past, the state after it)"""
        state = {"past": None, "sum": None} if state is None else state
        parts = linear(p["in"], rms_norm(p["norm"], x, self.epsilon))
        read, gate = parts[..., 0, :], parts[..., 1, :]
        if there is not None:
            read = jnp.where(there[..., None], read, 0)
        y, past = short_conv(p["conv"], read, lengths, documents, state["past"])
        read = self.activation(y)
        low, into, out = jnp.split(linear(p["selected"], read), (rank := self.ranks(), rank + self.state), -1)
        step = jax.nn.softplus(linear(p["step"], low).astype(wide_dtype(x)))
        if there is not None:
            step = jnp.where(there[..., None], step, 0)
        decay = -jnp.exp(p["log_decay"].T.astype(step.dtype))
        begins = None if documents is None else documents != earlier(documents, 1, documents[..., :1])
        y, last = selective_scan(read, step, decay, into, out, state["sum"], begins)
        y = (y + read.astype(y.dtype) * along(p["skip"], y)).astype(x.dtype) * jax.nn.silu(gate)
        y = dropout(linear(p["out"], tap("mixed", y)), self.dropout, fold(key, "mixed"))
        return tap("block", x + y), None if past is None else {"past": past, "sum": last.astype(state["sum"].dtype)}

    def logits(self, params, x):
        """[..., embed] -> [..., vocab]"""
        return unembedding(params["tokens"], x) if self.tied else linear(params["head"], x)

    def cache(self, lead: tuple[int, ...], places: int, dtype: Any = jnp.float32):
        """The state before the first token in each of the rows of shape `lead`: as large for any number of places.

        Sums are kept in float32 at least.
        """
        past = jnp.zeros((*lead, self.window - 1, self.inside()), dtype)
        sums = jnp.zeros((*lead, self.state, self.inside()), wide_dtype(past))
        return {"mixers": [{"past": past, "sum": sums}] * self.layers, "length": jnp.zeros(lead, jnp.int32)}


def short_conv(
    p: Tree, x: jax.Array, lengths: jax.Array | None, documents: jax.Array | None, past: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """x[..., time, inner] -> (each feature's weighted sum over a window that ends there, its inputs behind the last)

    p:     {"weight": [window, inner], "bias": [inner], which may be missing}
    past:  [..., window - 1, inner], of before; without, zeros
    """
    window = p["weight"].shape[0]
    zeros = jnp.zeros((*x.shape[:-2], window - 1, x.shape[-1]), x.dtype)
    longer = jnp.concatenate([zeros if past is None else past.astype(x.dtype), x], -2)
    y = along(p["bias"], x) if "bias" in p else 0
    for i in range(window):
        part = longer[..., i : i + x.shape[-2], :]
        if documents is not None and i < window - 1:
            same = documents == earlier(documents, window - 1 - i, documents[..., :1])
            part = jnp.where(same[..., None], part, 0)
        y = y + part * along(p["weight"][i], x)
    if past is None:
        return y, None
    end = jnp.full(x.shape[:-2], x.shape[-2]) if lengths is None else jnp.asarray(lengths, jnp.int32)
    places = end[..., None] + lax.broadcast_to_rank(jnp.arange(window - 1), end.ndim + 1)
    return y, jnp.take_along_axis(longer, places[..., None], -2).astype(past.dtype)


def earlier(x: jax.Array, places: int, before: jax.Array) -> jax.Array:
    """x[..., time] so many places later, with what was before: [..., time]"""
    filled = jnp.broadcast_to(before, (*x.shape[:-1], places))
    return jnp.concatenate([filled, x], -1)[..., : x.shape[-1]]


def uniform(key, shape, dtype=jnp.float32):
    """A kernel [inputs, inner] within 1 / sqrt(inputs), as PyTorch starts convolutions, and the paper the steps"""
    return jax.random.uniform(key, shape, dtype, -1, 1) / math.sqrt(shape[0])


def first_steps(key, shape, dtype=jnp.float32):
    """What softplus turns into steps between 0.001 and 0.1, their logarithm uniform (the paper's section 3.6)"""
    low, high = jnp.log(jnp.array(FIRST_STEPS, dtype))
    step = jnp.exp(jax.random.uniform(key, shape, dtype) * (high - low) + low)
    return step + jnp.log(-jnp.expm1(-step))


def counted(key, shape, dtype=jnp.float32):
    """The logarithm of 1, 2, ... along the last axis: each number of a state decays faster than the one before"""
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[-1] + 1, dtype=dtype)), shape)
