"""Texts with parts missing, for models that learn to fill them in: BERT's masked words, T5's corrupted spans."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.data.sequences import Tokens, as_tokens


def mask_words(
    batch: dict[str, Any], key: jax.Array, mask: int, vocab: int, special: tuple[int, ...] = (), rate: float = 0.15
) -> dict[str, Any]:
    """batch["token"][..., time] -> the batch with words to foretell: "token" changed, "label" as it was, "weight"

    Each token is chosen with probability `rate`; of those 80 % become `mask`, 10 % any token, 10 % stay. "weight"
    is 1 at the chosen, else 0. Never chosen are `special` (padding, beginning, end) and, where batch["length"][...] is
    there, what lies behind it. (Devlin et al. 2018, arXiv:1810.04805, section 3.1)

    As a transform it masks anew in each epoch:

        masking = functools.partial(jann.data.mask_words, mask=4, vocab=8000, special=(0, 1, 2, 3, 4))
        batches = jann.data.batches({"token": tokens, "length": lengths}, 32, key, transform=masking)
        loss = jann.objective(model, jann.language, inputs=("token", "length"))

    Raises ValueError without a key: mask once with a fixed key to evaluate.
    """
    token, allowed = asked_for(batch, key, special, rate)
    chosen = allowed & (jax.random.uniform(jax.random.fold_in(key, 0), token.shape) < rate)
    changed = jnp.where(chosen, replaced(token, key, mask, vocab), token)
    return {**batch, "token": changed, "label": token, "weight": chosen.astype(jnp.float32)}


def mask_places(
    batch: dict[str, Any], key: jax.Array, mask: int, vocab: int, places: int, special: tuple[int, ...] = (),
    rate: float = 0.15,
) -> dict[str, Any]:  # fmt: skip
    """As `mask_words`, but with a number of words that is the same in each row, and only those to foretell

    batch["token"][..., time] -> the batch with "token" changed, "place"[..., places], where the words stand that are to
    be foretold, "label"[..., places], what they were, and "weight", 1, or 0 where a row has fewer. Of each row's tokens
    that may be chosen, it chooses `rate`, rounded, but at least one and no more than `places`, as the published code of
    BERT does, which computes logits there only:

        masking = functools.partial(jann.data.mask_places, mask=4, vocab=8000, places=10, special=(0, 1, 2, 3, 4))
        loss = jann.objective(model, jann.language, inputs=("token", "length", None, "place"))

    Raises ValueError without a key, or for more places than a row has tokens.
    """
    token, allowed = asked_for(batch, key, special, rate)
    if places > token.shape[-1]:
        raise ValueError(f"places={places} are more than the {token.shape[-1]} tokens of a row: choose fewer")
    noise = jax.random.uniform(jax.random.fold_in(key, 0), token.shape)
    _, place = jax.lax.top_k(jnp.where(allowed, -noise, -1), places)
    there = allowed.sum(-1, keepdims=True)
    wanted = jnp.clip(jnp.round(rate * there), jnp.minimum(1, there), there)
    weight = jax.lax.broadcast_to_rank(jnp.arange(places), token.ndim) < wanted
    label = jnp.take_along_axis(token, place, -1)
    changed = jnp.where(weight, replaced(label, key, mask, vocab), label)
    token = jnp.put_along_axis(token, place, changed, -1, inplace=False)
    return {**batch, "token": token, "place": place, "label": label, "weight": weight.astype(jnp.float32)}


def share_of(rate: float) -> None:
    """Raises ValueError where `rate` is no share."""
    if not isinstance(rate, jax.core.Tracer) and not 0 <= rate <= 1:
        raise ValueError(f"rate={rate} is a share of the tokens: give 0 to 1")


def asked_for(
    batch: dict[str, Any], key: jax.Array, special: tuple[int, ...], rate: float
) -> tuple[jax.Array, jax.Array]:
    """(batch["token"][..., time], which of them may be chosen [..., time])"""
    share_of(rate)
    if key is None:
        raise ValueError("masks are drawn with a key: to evaluate, mask the arrays once with a fixed one")
    token = jnp.asarray(batch["token"])
    allowed = ~jnp.isin(token, jnp.asarray(special, token.dtype))
    if "length" in batch:
        time = jax.lax.broadcast_to_rank(jnp.arange(token.shape[-1]), token.ndim)
        allowed = allowed & (time < jnp.asarray(batch["length"])[..., None])
    return token, allowed


def replaced(token: jax.Array, key: jax.Array, mask: int, vocab: int) -> jax.Array:
    """token[...] -> what stands in its place if it is chosen: 80 % `mask`, 10 % any token, 10 % itself"""
    fate = jax.random.uniform(jax.random.fold_in(key, 1), token.shape)
    other = jax.random.randint(jax.random.fold_in(key, 2), token.shape, 0, vocab, token.dtype)
    return jnp.where(fate < 0.8, jnp.asarray(mask, token.dtype), jnp.where(fate < 0.9, other, token))


def corrupt_spans(
    tokens: Tokens, random: np.random.Generator, sentinels: Sequence[int], rate: float = 0.15, mean: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """tokens[time] -> (inputs, targets): spans are cut out of the inputs, a sentinel in the place of each

    The targets are each sentinel and what it stands for: of "a b c d e f", "a b X f" and "X c d e". About
    `rate` × time tokens are cut out, in spans `mean` long on the average, placed at random; the first token stays. What
    stops a text is to be appended to both.

    sentinels:  of T5: range(32099, 31999, -1)

    Raises ValueError for fewer than two tokens, for more spans than sentinels, or a rate that is no share. (Raffel et
    al. 2020, arXiv:1910.10683, section 3.1.4, as `random_spans_noise_mask` in its code does it)
    """
    tokens = as_tokens(tokens, "the text")
    time = len(tokens)
    if time < 2:
        raise ValueError("the text is a single token: nothing is left where a span is cut out of it")
    share_of(rate)
    if not mean >= 1:
        raise ValueError(f"mean={mean}: spans are at least one token long")
    missing = min(max(round(time * rate), 1), time - 1)
    spans = min(max(round(missing / mean), 1), time - missing)
    if spans > len(sentinels):
        raise ValueError(f"{time} tokens need {spans} sentinels, there are {len(sentinels)}: give more or cut it")
    kept, cut = partition_of(time - missing, spans, random), partition_of(missing, spans, random)
    begins = np.cumsum(kept + cut) - cut
    gone = np.repeat(np.tile([False, True], spans), np.stack([kept, cut], 1).reshape(-1))
    marks = np.asarray(sentinels, np.int32)[:spans]
    first = np.zeros(time, bool)
    first[begins] = True
    inputs = tokens.copy()
    inputs[begins] = marks
    targets = np.insert(tokens[gone], np.cumsum(cut) - cut, marks)
    return inputs[~gone | first], targets


def partition_of(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """total as a sum of so many parts, each at least 1, every such sum equally likely: [parts]"""
    ends = np.sort(random.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], ends, [total]]))
