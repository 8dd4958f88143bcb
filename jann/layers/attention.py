"""Attention over several heads (Vaswani et al. 2017, arXiv:1706.03762)."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jann.core import Spec
from jann.depth import observing, tap
from jann.layers.activations import dropout, soft_capped
from jann.layers.causal import SHORTEST, causal_by_parts
from jann.layers.dense import linear, linear_spec
from jann.layers.dtypes import wide_dtype
from jann.layers.products import fast_halves, matmul
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
    bias: jax.Array | None = None,
    scale: float | None = None,
    cap: float | None = None,
    rate: float | jax.Array = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """query[..., time, heads, head], keys and values[..., places, heads, head] -> [..., time, heads, head]

    softmax(scale query · keys + bias) values, in float32 at least inside; scale is 1 / sqrt(head) unless given. Keys
    and values may have fewer heads, each shared by equally many of the query's.

    mask:       true where attention is allowed, broadcast to [..., heads, time, places]; at least one place a row
    causal:     time t sees places up to t
    bias:       added to the scores, broadcast like the mask
    cap:        scale query · keys are held below it, see `soft_capped`
    rate, key:  dropout of the attention weights; no key, no noise

    Observed as "attention": the weights [..., heads, time, places]. They are only formed for that, dropout and caps;
    otherwise it is `jax.nn.dot_product_attention`, which on a GPU need not store them, or `causal_by_parts`.
    """
    if keys.shape[-3] == 0 < query.shape[-3]:
        raise ValueError(f"keys {list(keys.shape)} [..., places, heads, head]: there is no place to attend to")
    if keys.shape[:-3] != query.shape[:-3] and math.prod(keys.shape[:-3]) > 1:
        raise ValueError(
            f"a query of shape {list(query.shape)} and keys {list(keys.shape)} [..., places, heads, head] have other "
            "leading axes: what is attended to is of another batch"
        )
    keys, values = keys.astype(query.dtype), values.astype(query.dtype)  # of a memory in another precision
    lead, scored = query.shape[:-3], (query.shape[-2], query.shape[-3], keys.shape[-3])
    mask, bias = (None if x is None else with_scores(x, (*lead, *scored)) for x in (mask, bias))
    noisy = key is not None and not (isinstance(rate, (int, float)) and rate == 0)
    on_cpu = jax.default_backend() == "cpu"
    # JAX's own takes the softmax in float32 and has no cap; on a CPU its products of float16 are not compiled, and the
    # gradients of those of bfloat16 leave the processor's instructions for it unused.
    own = query.dtype == jnp.float64 or (query.dtype == jnp.float16 and on_cpu) or fast_halves(query) or cap is not None
    plain = mask is None and bias is None and cap is None and keys.shape == query.shape
    several = query.shape[-3] > SHORTEST  # one part leaves nothing out
    if causal and plain and several and on_cpu and not (observing() or noisy):
        return causal_by_parts(query, keys, values, query.shape[-1] ** -0.5 if scale is None else scale)
    if not (observing() or noisy or own):
        batched = [lax.collapse(part, 0, -3) for part in (query, keys, values)]
        mask, bias = (None if x is None else lax.collapse(x, 0, -3) for x in (mask, bias))
        with jax.numpy_dtype_promotion("standard"):  # in half precision JAX's own fails under "strict"
            y = jax.nn.dot_product_attention(*batched, mask=mask, bias=bias, scale=scale, is_causal=causal)
        return y.reshape(query.shape)
    if causal:
        past = with_scores(jnp.tril(jnp.ones(scored[1:], bool)), (*lead, *scored))
        mask = past if mask is None else mask & past
    heads_first = (jnp.moveaxis(part, -2, -3) for part in (keys, values))
    return attended(query, *heads_first, mask, bias, scale, cap, rate, key)


def attended(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array | None,
    bias: jax.Array | None,
    scale: float | None,
    cap: float | None = None,
    rate: float | jax.Array = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """query[..., time, heads, head], keys and values[..., shared heads, places, head], by matrix products"""
    *lead, time, heads, head = query.shape
    shared, places = keys.shape[-3], keys.shape[-2]
    # The heads that share keys stand below each other, so that one product serves them.
    rows = jnp.moveaxis(query, -2, -3).reshape(*lead, shared, heads // shared * time, head)
    # Few queries are turned round, not the keys, which XLA would copy.
    if rows.shape[-2] < head and not fast_halves(rows):
        scores = jnp.matmul(keys, rows.swapaxes(-1, -2), preferred_element_type=wide_dtype(query)).swapaxes(-1, -2)
    else:
        scores = matmul(rows, keys, second_turned=True, wide=True)
    scores = soft_capped(scores.reshape(*lead, heads, time, places) * (head**-0.5 if scale is None else scale), cap)
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = tap("attention", jax.nn.softmax(scores))
    weights = dropout(weights, rate, key).astype(values.dtype)
    y = matmul(weights.reshape(*lead, shared, heads // shared * time, places), values)
    return jnp.moveaxis(y.reshape(*lead, heads, time, head), -3, -2)


def with_scores(x: jax.Array, scores: tuple[int, ...]) -> jax.Array:
    """x with the leading axes of its scores; its heads may stay 1."""
    x = lax.broadcast_to_rank(x, len(scores))
    try:
        return jnp.broadcast_to(x, (*scores[:-3], x.shape[-3], *scores[-2:]))
    except ValueError:
        raise ValueError(
            f"a mask of shape {list(x.shape)} does not fit scores {list(scores)} [..., heads, time, places]"
        ) from None
