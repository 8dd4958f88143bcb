"""What decoders share: where tokens stand, what they may see, and a cache so that each is computed once.

A decoder's state is {"blocks": [a cache a block], "length": int32[...] tokens seen in each row}.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jann.depth import apply_blocks
from jann.layers.attention import attended, dot_product_attention, with_scores
from jann.layers.dense import linear
from jann.trees import Tree, unstacked


def token_positions(
    tokens: jax.Array, lengths: jax.Array | None = None, positions: jax.Array | None = None, state: Tree | None = None
) -> jax.Array:
    """tokens[..., time] -> their positions[..., time], int32, with -1 for padding

    lengths:    [...], how many tokens of each row are there; the rest is padding
    positions:  [..., time], given where they are not 0, 1, 2, ...: packed documents, padding on the left (-1)
    state:      of a decoder, whose tokens came before

    Raises ValueError for more tokens than the state has room for, even if they were the first.
    """
    places = cache_places(state)
    if places is not None and lengths is None and positions is None and tokens.shape[-1] > places:
        raise ValueError(
            f"{tokens.shape[-1]} tokens are more than the {places} places of the state: begin with a longer cache, "
            "model.cache(lead, places), or say with lengths how many are there"
        )
    if state is not None:
        fitting("rows of a state", state["length"], tokens.shape[:-1], "model.cache(tokens.shape[:-1], places) does")
    if lengths is not None:
        fitting("lengths", lengths, tokens.shape[:-1], "one for each row")
    time = lax.broadcast_to_rank(jnp.arange(tokens.shape[-1], dtype=jnp.int32), tokens.ndim)
    if positions is not None:
        fitting("positions", positions, tokens.shape, "one for each token")
    else:
        positions = time if state is None else time + state["length"][..., None]
    positions = jnp.broadcast_to(positions, tokens.shape)
    return positions if lengths is None else jnp.where(time < jnp.asarray(lengths)[..., None], positions, -1)


def fitting(name: str, values: jax.Array, shape: tuple[int, ...], mend: str) -> None:
    """Raises ValueError unless values can be broadcast to the shape, of tokens or of their rows."""
    given = jnp.shape(values)
    try:
        fits = np.broadcast_shapes(given, shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} of shape {list(given)} do not fit the tokens' {list(shape)}: {mend}")


def last_token(x: jax.Array, positions: jax.Array) -> jax.Array:
    """x[..., time, features] at each row's last token, of the highest of positions[..., time]: [..., features]"""
    return jnp.take_along_axis(x, positions.argmax(-1)[..., None, None], -2)[..., 0, :]


def causal_mask(
    positions: jax.Array, places: int | None = None, documents: jax.Array | None = None, window: int = 0
) -> jax.Array:
    """positions[..., time] -> [..., 1, time, places], true where attention is allowed; position -1 is padding

    places:     of a cache, where the token of position t lies at place t; None: the tokens attend to each other, in
                the order in which they stand
    documents:  [..., time], without a cache: tokens see only those of the same number (several packed in a row)
    window:     a token sees so many positions, itself among them; 0 is all

    Raises ValueError for documents with a cache, which does not hold whose tokens are whose.
    """
    if places is not None and documents is not None:
        raise ValueError(
            "documents are told apart without a state only: read one after another, each with a state of its own"
        )
    if documents is not None:
        fitting("documents", documents, positions.shape, "one for each token")
    if isinstance(window, int) and window < 0:
        raise ValueError(f"window={window}: a token sees at least itself, window=1, or with 0 all before it")
    here = positions[..., :, None]
    if places is not None:
        there = jnp.arange(places).reshape((1,) * positions.ndim + (places,))
        allowed = there <= jnp.maximum(here, 0)
    else:
        there = positions[..., None, :]
        past = jnp.tril(jnp.ones((positions.shape[-1],) * 2, bool))
        allowed = lax.broadcast_to_rank(past, positions.ndim + 1) & (there >= 0)
        if documents is not None:
            allowed = allowed & (documents[..., :, None] == documents[..., None, :])
        itself = lax.broadcast_to_rank(jnp.eye(positions.shape[-1], dtype=bool), positions.ndim + 1)
        allowed = allowed | itself  # also for padding, so that no row is empty
    if isinstance(window, jax.Array) or window:
        allowed = allowed & ((here - there < window) | (window == 0))
    return allowed[..., None, :, :]


def decoder_cache(
    layers: int, lead: tuple[int, ...], places: int, heads: int, head: int, dtype: Any = jnp.float32
) -> Tree:
    """A decoder's state before the first token, with room for `places` tokens in each of the rows of shape `lead`.

    Each block's cache is {"key", "value"}, zeros [*lead, heads, places, head]; place t is for the token of position t.
    """
    blocks = [
        {name: jnp.zeros((*lead, heads, places, head), dtype) for name in ("key", "value")} for _ in range(layers)
    ]
    return {"blocks": blocks, "length": jnp.zeros(lead, jnp.int32)}


def decoder_blocks(
    block: Callable, x: jax.Array, blocks: Any, positions: jax.Array, state: Tree | None, *slots: Any
) -> tuple[jax.Array, Tree | None]:
    """x through every block, `block(x, p, cache, *slot) -> (x, cache)`: -> (x, the state with the tokens of x)

    Tokens for which the state had no place left are NaN: they were not kept, so nothing could be right from there on.
    """
    x, caches = apply_blocks(block, x, blocks, None if state is None else state["blocks"], *slots)
    if state is None:
        return x, None
    x = jnp.where((positions < cache_places(state))[..., None], x, jnp.nan)
    caches = caches if isinstance(caches, list) else unstacked(caches)
    return x, {**state, "blocks": caches, "length": state["length"] + (positions >= 0).sum(-1, dtype=jnp.int32)}


def source_mask(places: int, lengths: jax.Array | None) -> jax.Array | None:
    """lengths[...] of what is attended to -> [..., 1, 1, places], true where it is; None stays None"""
    if lengths is None:
        return None
    lengths = jnp.asarray(lengths)[..., None, None, None]
    return lax.broadcast_to_rank(jnp.arange(places), lengths.ndim) < lengths


def cross_state(state: Tree, blocks: Any, memory: jax.Array, lengths: jax.Array | None, dtype: Any) -> Tree:
    """A decoder's state with the keys and values by which its blocks see memory[..., source, embed]

    blocks:   their parameters, with "cross_key" and "cross_value"
    lengths:  [...], how much of the memory is there
    """
    blocks = blocks if isinstance(blocks, list) else unstacked(blocks)

    def heads_first(p):
        return jnp.moveaxis(linear(p, memory), -2, -3).astype(dtype)

    cross = [{name: heads_first(p[f"cross_{name}"]) for name in ("key", "value")} for p in blocks]
    whole = jnp.full(memory.shape[:-2], memory.shape[-2], jnp.int32)
    return {**state, "cross": cross, "sources": whole if lengths is None else jnp.asarray(lengths, jnp.int32)}


def cache_places(state: Tree | None) -> int | None:
    """How many tokens the state has room for; None without one."""
    return None if state is None else state["blocks"][0]["key"].shape[-2]


def causal_attention(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    mask: jax.Array | None,
    cache: Tree | None = None,
    **options: Any,
) -> tuple[jax.Array, Tree | None]:
    """What a decoder's block does: -> (attention[..., time, heads, head], the cache with these tokens, if there is one)

    mask:     of `causal_mask`; None, without a cache, where order is all that matters
    options:  of `dot_product_attention`
    """
    if cache is None:
        return dot_product_attention(query, keys, values, mask, causal=mask is None, **options), None
    cache = remember(cache, keys, values, positions)
    options = {name: options[name] for name in ("bias", "scale", "cap") if name in options}
    return cached_attention(query, cache, mask, **options), cache


def cached_attention(
    query: jax.Array,
    cache: Tree,
    mask: jax.Array,
    bias: jax.Array | None = None,
    scale: float | None = None,
    cap: float | None = None,
) -> jax.Array:
    """query[..., time, heads, head] attends to what the cache holds, as in `dot_product_attention`"""
    scores = (*query.shape[:-3], query.shape[-2], query.shape[-3], cache["key"].shape[-2])
    bias = None if bias is None else with_scores(bias, scores)
    dtype = query.dtype
    keys, values = cache["key"].astype(dtype), cache["value"].astype(dtype)
    return attended(query, keys, values, with_scores(mask, scores), bias, scale, cap)


def remember(cache: Tree, keys: jax.Array, values: jax.Array, positions: jax.Array) -> Tree:
    """The cache with keys and values[..., time, heads, head] at positions[..., time]; position -1 is not kept."""
    lead, places = cache["key"].shape[:-3], cache["key"].shape[-2]
    positions = jnp.broadcast_to(positions, (*lead, positions.shape[-1])).reshape(-1, positions.shape[-1])
    positions = jnp.where(positions < 0, places, positions)  # which "drop" drops

    def kept(old, new):
        flat = old.reshape(-1, *old.shape[-3:])
        new = jnp.moveaxis(new, -2, -3).reshape(-1, *flat.shape[1:2], new.shape[-3], new.shape[-1]).astype(old.dtype)
        if positions.shape == (1, 1):
            # A decode step of one row: in place, where a scatter would copy the cache. What is not to be kept goes to
            # the last place, which is read by none but the token that belongs there and is put there before.
            return lax.dynamic_update_slice_in_dim(flat[0], new[0], positions[0, 0], axis=1).reshape(old.shape)
        put = jax.vmap(lambda row, at, values: row.at[:, at].set(values, mode="drop"))
        return put(flat, positions, new).reshape(old.shape)

    return {"key": kept(cache["key"], keys), "value": kept(cache["value"], values)}
