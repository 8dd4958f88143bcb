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
    if key is None:
        raise ValueError("mask_words draws with a key: to evaluate, mask the arrays once with a fixed one")
    token = jnp.asarray(batch["token"])
    allowed = ~jnp.isin(token, jnp.asarray(special, token.dtype))
    if "length" in batch:
        time = jax.lax.broadcast_to_rank(jnp.arange(token.shape[-1]), token.ndim)
        allowed = allowed & (time < jnp.asarray(batch["length"])[..., None])
    chosen, fate, other = (jax.random.fold_in(key, i) for i in range(3))
    chosen = allowed & (jax.random.uniform(chosen, token.shape) < rate)
    fate = jax.random.uniform(fate, token.shape)
    other = jax.random.randint(other, token.shape, 0, vocab, token.dtype)
    changed = jnp.where(fate < 0.8, jnp.asarray(mask, token.dtype), jnp.where(fate < 0.9, other, token))
    return {
        **batch, "token": jnp.where(chosen, changed, token), "label": token, "weight": chosen.astype(jnp.float32),
    }  # fmt: skip


def corrupt_spans(
    tokens: Tokens, random: np.random.Generator, sentinels: Sequence[int], rate: float = 0.15, mean: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """tokens[time] -> (inputs, targets): spans are cut out of the inputs, a sentinel in the place of each

    The targets are each sentinel and what it stands for: of "a b c d e f", "a b X f" and "X c d e". About
    `rate` × time tokens are cut out, in spans `mean` long on the average, placed at random; the first token stays. What
    stops a text is to be appended to both.

    sentinels:  of T5: range(32099, 31999, -1)

    Raises ValueError for fewer than two tokens, or for more spans than sentinels. (Raffel et al. 2020,
    arXiv:1910.10683, section 3.1.4, as `random_spans_noise_mask` in its code does it)
    """
    tokens = as_tokens(tokens, "the text")
    time = len(tokens)
    if time < 2:
        raise ValueError("the text is a single token: nothing is left where a span is cut out of it")
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
