"""Answers that stand in the text itself: the likeliest spans of tokens."""

import jax
import jax.numpy as jnp

from jann.layers.dtypes import wide_dtype


def best_spans(
    logits: jax.Array, longest: int = 30, count: int = 1, allowed: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """logits[..., time, 2] -> (first tokens, last tokens, log-probabilities) of the best spans, each [..., count]

    The log-probability of a span is that of its beginning plus that of its end, as BERT has them (Devlin et al. 2018,
    arXiv:1810.04805, section 4.2), in nats; the likeliest comes first.

    longest:  tokens of a span at most
    allowed:  [..., time], the tokens that a span may hold; the others also have no share in the probabilities. What is
              asked for beyond the spans that there are has the log-probability -inf.

    Raises ValueError where longest or count is less than 1, there are not so many spans in all, or a shape is another.
    """
    if logits.ndim < 2 or logits.shape[-1] != 2:
        raise ValueError(f"logits {list(logits.shape)}: [..., time, 2] wanted, of where an answer begins and ends")
    if allowed is not None and allowed.shape != (tokens := logits.shape[:-1]):
        raise ValueError(f"allowed {list(allowed.shape)} for logits {list(logits.shape)}: {list(tokens)} wanted")
    time = logits.shape[-2]
    longest = min(longest, time)
    if longest < 1 or not 1 <= count <= time * longest:
        raise ValueError(f"longest={longest}, count={count}: {time} tokens have at least 1 and {time * longest} spans")
    logits = logits.astype(wide_dtype(logits))
    if allowed is None:
        allowed = jnp.ones(logits.shape[:-1], bool)
    begins, ends = jnp.moveaxis(jax.nn.log_softmax(jnp.where(allowed[..., None], logits, -jnp.inf), axis=-2), -1, 0)
    # [..., time, longest]: what ends `further` tokens after each, and whether all between are allowed.
    further = jnp.arange(time)[:, None] + jnp.arange(longest)[None, :]
    room = [(0, 0)] * (logits.ndim - 2) + [(0, longest - 1)]
    ends = jnp.pad(ends, room, constant_values=-jnp.inf)[..., further]
    within = jnp.cumprod(jnp.pad(allowed, room)[..., further], -1)
    scores = jnp.where(within > 0, begins[..., None] + ends, -jnp.inf)
    found, place = jax.lax.top_k(scores.reshape(*scores.shape[:-2], time * longest), count)
    begin, further = place // longest, place % longest
    return begin, begin + further, found
