"""Chains, residuals and parallels are what their formulas say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.core import Model
from jann.models import BatchNorm, Dropout, Linear, chain, parallel, residual


class Counter(Model):
    """Adds up what it has seen: a model with a carry."""

    def spec(self):
        return {}

    def apply(self, params, x, state=None, key=None):
        total = x if state is None else state + x
        return total, total


class Tapped(Model):
    def spec(self):
        return {}

    def apply(self, params, x, state=None, key=None):
        return jann.tap("value", 2 * x), state


@pytest.fixture
def x(key):
    return jax.random.normal(key, (5, 4))


def test_formulas(x, key):
    f, g = Linear(4, 3), Linear(3, 2)
    model = chain(f, jnp.tanh, g)
    p = model.init(key)
    assert p[1] == {}
    np.testing.assert_allclose(model(p, x), g(p[2], jnp.tanh(f(p[0], x))), rtol=1e-6)
    square = Linear(4, 4)
    model = residual(square)
    p = model.init(key)
    np.testing.assert_allclose(model(p, x), x + square(p[0], x), rtol=1e-6)
    a, b = Linear(4, 3), Linear(4, 3)
    for join, formula in (
        ("concatenate", lambda a, b: np.concatenate([a, b], -1)), ("add", np.add), ("multiply", np.multiply)
    ):  # fmt: skip
        model = parallel(a, b, join=join)
        p = model.init(key)
        np.testing.assert_allclose(model(p, x), formula(a(p[0], x), b(p[1], x)), rtol=1e-6)


def test_state_goes_to_its_part(x):
    model = chain(jnp.negative, Counter(), residual(Counter()))
    output, state = model.apply([{}, {}, [{}]], x)
    np.testing.assert_allclose(output, -2 * x, rtol=1e-6)
    assert state[0] is None
    output, state = model.apply([{}, {}, [{}]], x, state=state)
    np.testing.assert_allclose(state[1], -2 * x, rtol=1e-6)
    np.testing.assert_allclose(state[2][0], -3 * x, rtol=1e-6)
    np.testing.assert_allclose(output, -5 * x, rtol=1e-6)


def test_batch_statistics_through_nested_parts(x, key):
    model = chain(Linear(4, 4), residual(chain(BatchNorm(4), jnp.tanh)), parallel(BatchNorm(4), jnp.tanh))
    trained, running = jann.split(model, model.init(key))
    output, statistics = model.apply(trained, x)
    hidden = x @ trained[0]["weight"]
    np.testing.assert_allclose(statistics[1][0][0]["mean"], hidden.mean(0), rtol=1e-5, atol=1e-6)
    fixed = jann.combine(trained, statistics)
    assert jann.flatten(jann.split(model, fixed)[1]).keys() == jann.flatten(running).keys()
    # the batch's variance is used as it is, the one kept is unbiased
    biased = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 4 / 5 if "variance" in str(path) else leaf, statistics
    )
    np.testing.assert_allclose(model(jann.combine(trained, biased), x), output, rtol=1e-4, atol=1e-5)


def test_noise_of_a_part_depends_on_its_place_alone(key):
    x = jnp.ones((200,))
    one, two = chain(Dropout(0.5)), chain(Dropout(0.5), Dropout(0.5))
    first = one([{}], x, key=key)
    both = two([{}, {}], x, key=key)
    assert (both[first == 0] == 0).all()
    assert 20 < (both != 0).sum() < 80
    np.testing.assert_array_equal(two([{}, {}], x), x)


def test_taps_stay_apart(x):
    model = chain(Tapped(), residual(Tapped()), parallel(Tapped(), Tapped()))
    _, taps = jann.observe(model)([{}, [{}], [{}, {}]], x)
    assert taps.keys() == {"0/value", "1/0/value", "2/0/value", "2/1/value"}
    np.testing.assert_allclose(taps["1/0/value"], 4 * x, rtol=1e-6)


def test_mistakes_are_named(x, key):
    with pytest.raises(ValueError, match=r"\[5, 4\].*\[5, 3\]"):
        residual(Linear(4, 3))([Linear(4, 3).init(key)], x)
    with pytest.raises(ValueError, match=r"cannot add outputs of shapes \[5, 3\], \[5, 4\]"):
        model = parallel(Linear(4, 3), jnp.tanh, join="add")
        model(model.init(key), x)
    with pytest.raises(ValueError, match="must be one of concatenate, add, multiply, got 'mix'"):
        parallel(jnp.tanh, join="mix")
    with pytest.raises(TypeError, match="cannot be saved"):
        jann.to_json(chain(lambda x: x))
