"""The Temporal Fusion Transformer: the paper's formulas, causality, weights that sum to 1, gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.analysis import check_gradients
from jann.layers.gated_residual import gated_residual, variable_selection
from jann.models import TemporalFusionTransformer

MODEL = TemporalFusionTransformer(
    lookback=4, horizon=3, observed=(0, 0), known=(5, 0), static=(3,), hidden=4, heads=2, quantiles=(0.1, 0.5, 0.9)
)
OBSERVED = jax.jit(jann.observe(MODEL))


@pytest.fixture
def params(drawn):
    return drawn(MODEL)


@pytest.fixture
def inputs():
    random = np.random.default_rng(0)
    known = np.stack([random.integers(0, 5, (2, 7)), random.normal(size=(2, 7))], -1)
    return {
        "observed": jnp.asarray(random.normal(size=(2, 4, 2)), jnp.float32),
        "known": jnp.asarray(known, jnp.float32),
        "static": jnp.array([[0], [2]]),
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(p, x, context=None):
    """The gated residual network as in the paper's equations (2) to (5), for one vector, in NumPy."""
    p = jax.tree.map(np.asarray, p)
    eta = x @ p["dense"]["weight"] + p["dense"]["bias"]
    if context is not None:
        eta = eta + context @ p["context"]["weight"]
    eta = np.where(eta > 0, eta, np.exp(np.minimum(eta, 0)) - 1) @ p["hidden"]["weight"] + p["hidden"]["bias"]
    gate, value = (eta @ p["out"]["gate"]["weight"][:, i] + p["out"]["gate"]["bias"][i] for i in range(2))
    skip = x @ p["skip"]["weight"] + p["skip"]["bias"] if "skip" in p else x
    y = skip + sigmoid(gate) * value
    y = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
    return y * p["out"]["norm"]["scale"] + p["out"]["norm"]["bias"]


def test_gated_residual_network_is_the_papers(params):
    random = np.random.default_rng(1)
    x, context = random.normal(size=(2, 4)).astype(np.float32)
    got = gated_residual(params["enrichment"], x, context)
    np.testing.assert_allclose(got, by_hand(params["enrichment"], x, context), rtol=2e-5, atol=2e-6)


def test_variable_selection_weighs_each_variables_own_network(params):
    random = np.random.default_rng(2)
    x, context = random.normal(size=(4, 4)).astype(np.float32), random.normal(size=4).astype(np.float32)
    p = params["past"]
    selected, weights = variable_selection(p, x, context)
    scores = by_hand(p["weights"], x.reshape(-1), context)
    np.testing.assert_allclose(weights, np.exp(scores) / np.exp(scores).sum(), rtol=2e-5)
    each = [by_hand(jann.unstacked(p["each"])[i], x[i]) for i in range(4)]
    np.testing.assert_allclose(selected, np.asarray(weights) @ np.stack(each), rtol=2e-4, atol=1e-5)


def test_what_is_tapped_sums_to_1_and_attention_sees_no_later_step(params, inputs):
    output, taps = OBSERVED(params, inputs)
    assert output.shape == (2, 3, 3)
    assert taps["past_weights"].shape == (2, 4, 4) and taps["future_weights"].shape == (2, 3, 2)
    for name in ("past_weights", "future_weights", "static_weights", "attention"):
        np.testing.assert_allclose(taps[name].sum(-1), 1, rtol=1e-5)
    attention = np.asarray(taps["attention"])
    later = np.arange(7) > 4 + np.arange(3)[:, None]
    assert attention.shape == (2, 3, 7) and (attention[:, later] == 0).all() and (attention[:, ~later] > 0).all()


@pytest.mark.parametrize(
    ("name", "place", "first"),
    [
        ("observed", (0, 0), 0),
        ("observed", (3, 1), 0),
        ("known", (0, 1), 0),
        ("known", (4, 0), 0),
        ("known", (5, 0), 1),
        ("known", (5, 1), 1),
        ("known", (6, 1), 2),
    ],
)
def test_what_changes_at_a_step_changes_the_forecast_of_it_and_none_before(params, inputs, name, place, first):
    """Step 4 is the first to be forecast; known variables 0 are categories."""
    before = np.asarray(OBSERVED(params, inputs)[0])
    value = inputs[name][:, *place]
    moved = (value + 1) % 5 if name == "known" and place[1] == 0 else value + 1
    after = np.asarray(OBSERVED(params, {**inputs, name: inputs[name].at[:, *place].set(moved)})[0])
    np.testing.assert_array_equal(after[:, :first], before[:, :first])
    assert (after[:, first] != before[:, first]).any(-1).all()


def test_static_variables_change_their_own_series(params, inputs):
    before = np.asarray(OBSERVED(params, inputs)[0])
    after = np.asarray(OBSERVED(params, {**inputs, "static": jnp.array([[1], [2]])})[0])
    assert (after[0] != before[0]).all()
    np.testing.assert_array_equal(after[1], before[1])


def test_gradients_of_the_quantile_loss(params, inputs):
    target = jax.random.normal(jax.random.key(1), (2, 3))

    def loss(params, observed, known):
        outputs = MODEL(params, {**inputs, "observed": observed, "known": known})
        return jann.losses.quantile_loss(outputs, target, MODEL.quantiles).mean()

    errors = check_gradients(loss, params, inputs["observed"], inputs["known"], tolerance=1e-4)
    assert errors.keys() == jann.flatten(params).keys()


def test_one_example_agrees_with_the_batch(params, inputs):
    one = jax.jit(MODEL)(params, jax.tree.map(lambda x: x[1], inputs))
    np.testing.assert_allclose(one, OBSERVED(params, inputs)[0][1], rtol=1e-4, atol=1e-5)


def test_noise_differs_between_keys(params):
    select = jax.jit(jann.observe(variable_selection), static_argnames="rate")
    x, context = jnp.ones((1, 4, 4)), jnp.ones((1, 4))
    quiet, a, b, again = (
        np.asarray(select(params["past"], x, context, rate=0.5, key=key)[0][0])
        for key in (None, *map(jax.random.key, (0, 1, 0)))
    )
    assert not np.allclose(a, quiet) and not np.allclose(a, b)
    np.testing.assert_array_equal(a, again)


def test_normalised_it_follows_level_and_size_of_the_window(drawn, inputs):
    model = dataclasses.replace(MODEL, observed=(0,), static=(), normalise=True)
    params, run = drawn(model), jax.jit(model)
    inputs = {"observed": inputs["observed"][..., :1], "known": inputs["known"]}
    moved = run(params, {**inputs, "observed": 30 * inputs["observed"] + 7})
    np.testing.assert_allclose(moved, 30 * run(params, inputs) + 7, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known": ()}, "known is empty"),
        ({"observed": ()}, "observed is empty"),
        ({"heads": 3}, "heads=3 must divide hidden=4"),
    ],
)
def test_what_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(MODEL, **changes)


def test_categories_that_half_precision_cannot_tell_apart_are_refused(drawn, inputs):
    model = dataclasses.replace(MODEL, known=(0, 366))
    with pytest.raises(TypeError, match=r'inputs\["known"\] is bfloat16, which cannot tell 366 categories apart'):
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), inputs)
        jax.eval_shape(lambda: model(model.init(jax.random.key(0)), half))


def test_inputs_of_another_length_are_named(params, inputs):
    with pytest.raises(ValueError, match=r'inputs\["known"\] must be \[..., time=7, variables=2\], got \[2, 6, 2\]'):
        MODEL(params, {**inputs, "known": inputs["known"][:, :6]})
