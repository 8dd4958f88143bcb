"""Mixtures of experts: of many functions with weights of their own, each token goes through a few."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jann.layers.dtypes import wide_dtype
from jann.trees import Tree


def routed(logits: jax.Array, chosen: int, normalised: bool = True) -> tuple[jax.Array, jax.Array]:
    """The experts of each token (Shazeer et al. 2017, arXiv:1701.06538): logits[..., experts] -> (indices, weights)

    chosen:      how many: those with the largest probabilities; indices[..., chosen], the largest first
    normalised:  their weights[..., chosen] sum to 1 (Mixtral); else they are the probabilities, a softmax over all
    """
    if not 1 <= chosen <= logits.shape[-1]:
        raise ValueError(f"chosen={chosen}: give from 1 to the {logits.shape[-1]} experts that there are")
    probabilities = jax.nn.softmax(logits.astype(wide_dtype(logits)), -1)
    weights, indices = lax.top_k(probabilities, chosen)
    return indices, weights / weights.sum(-1, keepdims=True) if normalised else weights


def through_experts(
    expert: Callable[[Tree, jax.Array], jax.Array],
    params: Tree,
    x: jax.Array,
    indices: jax.Array,
    weights: jax.Array,
) -> jax.Array:
    """x[..., features] -> the weighted sum of what each token's experts make of it, [..., outputs]

    expert:            expert(p, rows[n, features]) -> [n, outputs], each row by itself
    params:            of all experts, with an axis for them before the others
    indices, weights:  [..., chosen], from `routed`

    No token is dropped. Tokens are sorted by expert, each expert's filled up to blocks of equal size, and all blocks
    multiplied at once (as Gale et al. 2022, MegaBlocks, arXiv:2211.15841): at most half as much again of products as
    are needed, whatever the number of experts, and a copy of at most three times their weights.
    """
    experts = jax.tree.leaves(params)[0].shape[0]
    lead, features, chosen = x.shape[:-1], x.shape[-1], indices.shape[-1]
    pairs = math.prod(lead) * chosen  # of a token and an expert
    if not pairs:
        none = jax.vmap(expert)(params, jnp.zeros((experts, 0, features), x.dtype))
        return none[0].reshape(*lead, none.shape[-1])
    size = -(-pairs // (2 * experts))
    blocks = (pairs + experts * (size - 1)) // size  # as many as there can be, for any choice

    whose = indices.reshape(pairs)
    order = jnp.argsort(whose)
    counts = jnp.bincount(whose, length=experts)
    filled = -(-counts // size)  # blocks of each expert
    ends = jnp.cumsum(filled)
    expert_of = jnp.minimum(jnp.searchsorted(ends, jnp.arange(blocks), side="right"), experts - 1)
    shift = (ends - filled) * size - (jnp.cumsum(counts) - counts)
    places = jnp.arange(pairs) + shift[whose[order]]  # of the sorted pairs, among the rows of all blocks

    tokens = jnp.full(blocks * size, pairs).at[places].set(order // chosen)  # none where a block is not full
    rows = x.reshape(-1, features).at[tokens].get(mode="fill", fill_value=0)
    own = jax.tree.map(lambda leaf: leaf[expert_of], params)
    made = jax.vmap(expert)(own, rows.reshape(blocks, size, features)).reshape(blocks * size, -1)
    y = made[jnp.zeros(pairs, places.dtype).at[order].set(places)].reshape(*lead, chosen, -1)
    return (y * weights[..., None].astype(y.dtype)).sum(-2)
