"""Attention over several heads (Vaswani et al. 2017, arXiv:1706.03762)."""

import math

import jax
import jax.numpy as jnp

from jann.core import Spec
from jann.depth import observing, tap
from jann.layers.activations import dropout
from jann.layers.dense import linear, linear_spec
from jann.layers.dtypes import wide_dtype
from jann.trees import Tree


def attention_spec(
    embed: int,
    heads: int,
    head: int | None = None,
    key_value_heads: int | None = None,
    memory: int | None = None,
    bias: bool = True,
) -> Spec:
    """Declares `query`, `key`, `value` (embed -> heads × head) and `out` (back to embed).

    head:             features of a head, by default embed / heads
    key_value_heads:  fewer for grouped-query attention; must divide heads
    memory:           features of what is attended to, where it isn't x itself
    """
    if head is None and embed % heads:
        raise ValueError(f"heads={heads} must divide embed={embed}, or give head=... as well")
    head = head or embed // heads
    shared = key_value_heads or heads
    if heads % shared:
        raise ValueError(f"key_value_heads={shared} must divide heads={heads}")
    attended = linear_spec({"embed": memory or embed}, {"key_value_heads": shared, "head": head}, bias)
    return {
        "query": linear_spec({"embed": embed}, {"heads": heads, "head": head}, bias),
        "key": attended,
        "value": attended,
        "out": linear_spec({"heads": heads, "head": head}, {"embed": embed}, bias),
    }


def attention(
    p: Tree,
    x: jax.Array,
    memory: jax.Array | None = None,
    mask: jax.Array | None = None,
    causal: bool = False,
    rate: float | jax.Array = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """x[..., time, embed] attends to itself, or to memory[..., places, features]: -> [..., time, embed]

    mask, causal, rate, key: as in `dot_product_attention`
    """
    memory = x if memory is None else memory
    q, k, v = linear(p["query"], x), linear(p["key"], memory), linear(p["value"], memory)
    return linear(p["out"], dot_product_attention(q, k, v, mask, causal, rate=rate, key=key), axes=2)


def dot_product_attention(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array | None = None,
    causal: bool = False,
    *,
    rate: float | jax.Array = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """query[..., time, heads, head], keys and values[..., places, heads, head] -> [..., time, heads, head]

    softmax(query · keys / sqrt(head)) values, in float32 at least inside. Keys and values may have fewer heads, each
    shared by equally many of the query's.

    mask:       true where attention is allowed, broadcast to [..., heads, time, places]; at least one place a row
    causal:     time t sees places up to t
    rate, key:  dropout of the attention weights; no key, no noise

    Observed as "attention": the weights [..., heads, time, places]. They are only formed for that and for dropout;
    otherwise it is `jax.nn.dot_product_attention`, which on a GPU need not store them.
    """
    lead, scored = query.shape[:-3], (query.shape[-2], query.shape[-3], keys.shape[-3])
    if mask is not None:
        mask = _with_scores(mask, (*lead, *scored))
    noisy = key is not None and not (isinstance(rate, (int, float)) and rate == 0)
    exact = query.dtype == jnp.float64  # JAX's own takes the softmax in float32
    if not (observing() or noisy or exact):
        batched = [part.reshape(-1, *part.shape[-3:]) for part in (query, keys, values)]
        mask = None if mask is None else mask.reshape(-1, *mask.shape[-3:])
        return jax.nn.dot_product_attention(*batched, mask=mask, is_causal=causal).reshape(query.shape)

    shared = query.shape[-2] // keys.shape[-2]
    keys, values = (jnp.repeat(part, shared, axis=-2) for part in (keys, values))
    scores = jnp.einsum("...qhd,...khd->...hqk", query, keys, preferred_element_type=wide_dtype(query))
    scores = scores / math.sqrt(query.shape[-1])
    if causal:
        past = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        scores = jnp.where(_with_scores(past, scores.shape), scores, jnp.finfo(scores.dtype).min)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = tap("attention", jax.nn.softmax(scores))
    weights = dropout(weights, rate, key).astype(values.dtype)
    return jnp.einsum("...hqk,...khd->...qhd", weights, values)


def _with_scores(mask: jax.Array, scores: tuple[int, ...]) -> jax.Array:
    """The mask with the leading axes of its scores; its heads may stay 1."""
    mask = jax.lax.broadcast_to_rank(mask, len(scores))
    try:
        return jnp.broadcast_to(mask, (*scores[:-3], mask.shape[-3], *scores[-2:]))
    except ValueError:
        raise ValueError(
            f"a mask of shape {list(mask.shape)} does not fit scores {list(scores)} [..., heads, time, places]"
        ) from None
