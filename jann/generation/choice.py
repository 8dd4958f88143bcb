"""Which token comes next: changes of the logits, and a draw from them."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jann.layers.dtypes import wide_dtype

LOWEST = -1e30  # finite, so that nothing turns into NaN


def choose(
    logits: jax.Array,
    keys: jax.Array | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> jax.Array:
    """logits[rows, vocab] -> tokens[rows]: the likeliest without keys, else drawn with a key for each row."""
    if keys is None:
        return logits.argmax(-1).astype(jnp.int32)
    return jax.vmap(jax.random.categorical)(keys, warped(logits, temperature, top_k, top_p, min_p)).astype(jnp.int32)


def warped(
    logits: jax.Array,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> jax.Array:
    """logits[..., vocab] as sampled from: the temperature first, then what is too unlikely removed.

    top_k:  keep the k likeliest (with those equal to the last of them)
    top_p:  keep the fewest tokens whose probabilities sum to p (Holtzman et al. 2019, arXiv:1904.09751)
    min_p:  keep those at least min_p times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)
    """
    logits = logits.astype(wide_dtype(logits))
    if temperature is not None:
        logits = logits / temperature
    if top_k is not None:
        last = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][..., -1:]
        logits = jnp.where(logits < last, LOWEST, logits)
    if top_p is not None:
        order = jnp.argsort(-logits, axis=-1)
        probabilities = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
        before = jnp.cumsum(probabilities, -1) - probabilities
        kept = jnp.take_along_axis((before < top_p) | (top_p >= 1), jnp.argsort(order, axis=-1), -1)
        logits = jnp.where(kept, logits, LOWEST)
    if min_p is not None:
        logits = jnp.where(logits < logits.max(-1, keepdims=True) + jnp.log(min_p), LOWEST, logits)
    return logits


def repetition_penalised(logits: jax.Array, tokens: jax.Array, lengths: jax.Array, penalty: float) -> jax.Array:
    """logits[rows, vocab] of tokens that are in tokens[rows, :lengths]: divided by the penalty, multiplied if negative

    Keskar et al. 2019, arXiv:1909.05858.
    """
    there = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]
    put = jax.vmap(lambda row, at: jnp.zeros(logits.shape[-1], bool).at[at].set(True, mode="drop"))
    seen = put(logits, jnp.where(there, tokens, logits.shape[-1]))
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def no_repeated_ngrams(logits: jax.Array, tokens: jax.Array, lengths: jax.Array, n: int) -> jax.Array:
    """logits[rows, vocab] without the tokens that would end an n-gram which tokens[rows, :lengths] already holds"""

    def one(logits, tokens, length):
        width = tokens.shape[0]
        starts = jnp.arange(width)
        last = tokens[jnp.clip(length - n + 1 + jnp.arange(n - 1), 0, width - 1)]
        grams = tokens[jnp.clip(starts[:, None] + jnp.arange(n - 1)[None, :], 0, width - 1)]
        same = (grams == last[None, :]).all(-1) & (starts + n - 1 < length) & (length >= n - 1)
        following = tokens[jnp.clip(starts + n - 1, 0, width - 1)]
        return logits.at[jnp.where(same, following, logits.shape[0])].set(LOWEST, mode="drop")

    return jax.vmap(one)(logits, tokens, lengths)


def restricted(
    without: Sequence[tuple],
    only: Sequence[tuple],
    processor: Callable | None,
    logits: jax.Array,
    tokens: jax.Array,
    lengths: jax.Array,
) -> jax.Array:
    """logits[rows, vocab] of what may come at each row's length, then by the processor

    without:  (begin[rows], end[rows], ids), ...: none of the ids where begin <= length < end
    only:     (at[rows], id), ...: the id, as if it were certain, where length == at
    """
    vocab = jnp.arange(logits.shape[-1])[None, :]
    for begin, end, ids in without:
        there = ((begin <= lengths) & (lengths < end))[:, None]
        logits = jnp.where(there & jnp.isin(vocab, ids), LOWEST, logits)
    for at, token in only:
        logits = jnp.where((lengths == at)[:, None], jnp.where(vocab == token, 0.0, LOWEST), logits)
    return logits if processor is None else processor(logits, tokens, lengths)


def renormalised(logits: jax.Array, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
    """A `logits_processor`: logits[..., vocab] -> their log-probabilities"""
    return jax.nn.log_softmax(logits)
