"""Mixtures of experts equal the sum over all experts, forward and back, for any spread of the tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.layers import routed, through_experts
from jann.losses import expert_balance


def expert(p, x):
    return jax.nn.silu(x @ p["up"]) @ p["down"]


def drawn(experts, lead, scale=3.0):
    keys = jax.random.split(jax.random.key(experts), 4)
    params = {"up": jax.random.normal(keys[0], (experts, 6, 10)), "down": jax.random.normal(keys[1], (experts, 10, 5))}
    return params, jax.random.normal(keys[2], (*lead, 6)), jax.random.normal(keys[3], (6, experts)) * scale


def mixed(params, x, router, chosen, normalised=True):
    return through_experts(expert, params, x, *routed(x @ router, chosen, normalised))


def defined(params, x, router, chosen, normalised=True):
    probabilities = jax.nn.softmax(x @ router)
    smallest = jnp.sort(probabilities)[..., -chosen, None]
    weights = jnp.where(probabilities >= smallest, probabilities, 0)
    weights = weights / weights.sum(-1, keepdims=True) if normalised else weights
    return jnp.einsum("e...o,...e->...o", jax.vmap(expert, (0, None))(params, x), weights)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(
    "experts, chosen, lead", [(8, 2, (1,)), (4, 2, (5,)), (4, 1, (8, 8)), (7, 7, (3,)), (1, 1, ())]
)
def test_equals_the_sum_over_all_experts_forward_and_back(experts, chosen, lead, normalised):
    parts = drawn(experts, lead)

    def total(run):
        def of(*parts):
            y = run(*parts, chosen, normalised)
            return (y**2).sum(), y

        return jax.jit(jax.value_and_grad(of, (0, 1, 2), has_aux=True))(*parts)

    found, want = total(mixed), total(defined)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * (1 + np.abs(b).max()))


def test_no_token_is_dropped_where_all_choose_the_same():
    params, x, _ = drawn(8, (50,))
    indices, weights = (jnp.broadcast_to(jnp.asarray(row), (50, 2)) for row in ([5, 2], [0.75, 0.25]))
    y = through_experts(expert, params, x, indices, weights)
    each = jax.vmap(expert, (0, None))(params, x)
    np.testing.assert_allclose(y, 0.75 * each[5] + 0.25 * each[2], rtol=1e-4, atol=1e-4)


def test_rows_do_not_depend_on_their_neighbours_nor_on_vmap():
    params, x, router = drawn(4, (6, 7))
    whole, rows = mixed(params, x, router, 2), jax.vmap(lambda x: mixed(params, x, router, 2))
    for run in (rows, jax.vmap(rows)):
        np.testing.assert_allclose(run(x), whole, rtol=1e-5, atol=1e-5)
    assert mixed(params, x[:0], router, 2).shape == (0, 7, 5)


def test_half_precision_stays_and_its_router_is_wide():
    params, x, router = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), drawn(4, (9,)))
    indices, weights = routed(x @ router, 2)
    assert weights.dtype == jnp.float32
    assert through_experts(expert, params, x, indices, weights).dtype == jnp.bfloat16


@pytest.mark.parametrize("chosen", [0, 5])
def test_as_many_are_chosen_as_there_are(chosen):
    with pytest.raises(ValueError, match=f"chosen={chosen}: give from 1 to the 4 experts"):
        routed(jnp.zeros((3, 4)), chosen)


def test_balance_is_least_where_tokens_spread_evenly():
    even = jnp.tile(20 * jnp.eye(4) + 10 * jnp.roll(jnp.eye(4), 1, 0), (1, 3, 1))  # each token its own two
    np.testing.assert_allclose(expert_balance(even, 2), 2, rtol=1e-3)
    same = jnp.tile(jnp.asarray([30.0, 0, 0, 0]), (1, 12, 1))
    np.testing.assert_allclose(expert_balance(same, 1), 4, rtol=1e-4)
    np.testing.assert_allclose(expert_balance(jnp.concatenate([even, same]), 1), (1 + 4) / 2, rtol=1e-3)
    there = jnp.arange(12) < 4
    junk = jnp.where(there[:, None], even, 50.0 * jnp.arange(4))
    np.testing.assert_allclose(expert_balance(junk, 2, there), expert_balance(even[:, :4], 2), rtol=1e-6)
    assert (jax.grad(lambda x: expert_balance(x, 1))(same / 30)[..., 0] > 0).all()
