"""Matrix factorisation: its formula, and the factors that alternating least squares finds too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from jann.models import MatrixFactorisation


def test_it_is_its_formula(drawn):
    model = MatrixFactorisation(users=5, items=4, features=3)
    params = drawn(model)
    user, item = jnp.asarray([[0, 4], [2, 2]]), jnp.asarray([[3, 0], [1, 1]])
    rating, seen = jann.observe(model)(params, user, item)
    p = jax.tree.map(np.asarray, params)
    for at in np.ndindex(2, 2):
        u, i = int(user[at]), int(item[at])
        want = p["mean"] + p["user_bias"]["table"][u, 0] + p["item_bias"]["table"][i, 0]
        want = want + p["user_factors"]["table"][u] @ p["item_factors"]["table"][i]
        np.testing.assert_allclose(rating[at], want, rtol=1e-5)
    assert {name: value.shape for name, value in seen.items()} == {
        "user_bias": (2, 2, 1), "item_bias": (2, 2, 1), "user_factors": (2, 2, 3), "item_factors": (2, 2, 3)
    }  # fmt: skip
    assert jann.count(MatrixFactorisation(5, 4, 0)) == 1 + 5 + 4


def test_training_finds_what_alternating_least_squares_finds():
    random, users, items, weight = np.random.default_rng(0), 12, 10, 0.5
    whole = random.normal(size=(users, 2)) @ random.normal(size=(2, items))
    there = random.random((users, items)) < 0.8
    p, q = random.normal(size=(users, 2)), random.normal(size=(items, 2))
    for _ in range(300):
        for mine, other, known, values in ((p, q, there, whole), (q, p, there.T, whole.T)):
            for row in range(len(mine)):
                x = other[known[row]]
                mine[row] = np.linalg.solve(x.T @ x + weight * len(x) * np.eye(2), x.T @ values[row][known[row]])
    squares = (p**2).sum(1) @ there.sum(1) + (q**2).sum(1) @ there.sum(0)
    least = ((p @ q.T - whole)[there] ** 2).sum() + weight * squares

    model = MatrixFactorisation(users, items, 2)
    user, item = np.nonzero(there)
    factors, biases = jann.partition(model.init(jax.random.key(0)), "factors")

    def loss(params, batch, key, extra=None):
        rating, seen = jann.observe(model)(jann.combine(params, biases), user, item)
        squares = sum(jnp.square(rows).sum() for rows in seen.values())
        return jnp.square(rating - whole[user, item]).sum() + weight * squares, ({}, extra)

    optimizer = optax.adam(0.03)
    state = jann.TrainState.start(jax.random.key(0), factors, optimizer)
    _, history = jax.jit(lambda s: jann.train(jann.make_step(loss, optimizer), lambda step: step, s, 1500))(state)
    np.testing.assert_allclose(history["loss"][-1], least, rtol=1e-3)
