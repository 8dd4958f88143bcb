"""Products of bfloat16 on a CPU, with rules of their own for gradients and `vmap`, against those of float32."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.layers import linear, linear_spec, products, unembedding
from jann.layers.products import fast_halves, half_matmul, matmul, plus_bias

FORMS = [
    {"first_turned": first, "second_turned": second, "wide": wide}
    for first, second, wide in itertools.product((False, True), repeat=3)
]
LEADS = [((), ()), ((3,), ()), ((2, 3), (2, 3))]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Any CPU can do what those with AMX do fast."""
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        pytest.skip("for one CPU device")
    monkeypatch.setattr(products, "_has_amx", lambda: True)


def normal(shape, number):
    return jax.random.normal(jax.random.key(number), shape).astype(jnp.bfloat16)


def factors(lead, form, rows=5):
    a = (*lead[0], 7, rows) if form["first_turned"] else (*lead[0], rows, 7)
    b = (*lead[1], 4, 7) if form["second_turned"] else (*lead[1], 7, 4)
    return normal(a, 1), normal(b, 2)


def in_float32(a, b, form):
    a = a.swapaxes(-1, -2) if form["first_turned"] else a
    return jnp.matmul(a.astype(jnp.float32), (b.swapaxes(-1, -2) if form["second_turned"] else b).astype(jnp.float32))


def assert_near(got, wanted, tolerance=2e-2):
    assert got.shape == wanted.shape
    got, wanted = np.asarray(got, np.float32), np.asarray(wanted, np.float32)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("lead", LEADS, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_products_and_their_gradients_are_those_of_float32(form, lead, rows):
    a, b = factors(lead, form, rows)
    y, pull = jax.vjp(lambda a, b: matmul(a, b, **form), a, b)
    wanted, pull_wanted = jax.vjp(lambda a, b: in_float32(a, b, form), a, b)
    assert y.dtype == (jnp.float32 if form["wide"] else jnp.bfloat16)
    assert_near(y, wanted)
    change = normal(y.shape, 3)
    for got, want in zip(pull(change.astype(y.dtype)), pull_wanted(change.astype(jnp.float32)), strict=True):
        assert got.dtype == jnp.bfloat16
        assert_near(got, want)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, None), (None, 1)], ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_vmap_is_a_loop_also_inside_and_outside_of_a_gradient(form, axes):
    factor = factors(((), ()), form)
    several = [
        x if axis is None else jnp.stack([x, 2 * x, -x], axis) for x, axis in zip(factor, axes, strict=True)
    ]

    def one(a, b):
        return matmul(a, b, **form).astype(jnp.float32)

    def loop(function):
        runs = [function(*(jnp.take(x, i, axis) if axis is not None else x for x, axis in pairs)) for i in range(3)]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *runs)

    pairs = list(zip(several, axes, strict=True))
    assert_near(jax.vmap(one, axes)(*several), loop(one))
    gradient = jax.grad(lambda a, b: jnp.square(one(a, b)).sum(), (0, 1))
    for got, want in zip(jax.vmap(gradient, axes)(*several), loop(gradient), strict=True):
        assert_near(got, want)
    total = jax.grad(lambda *several: jnp.square(jax.vmap(one, axes)(*several)).sum(), (0, 1))(*several)
    for got, want, axis in zip(total, loop(gradient), axes, strict=True):
        assert_near(got, want.astype(jnp.float32).sum(0) if axis is None else jnp.moveaxis(want, 0, axis), 4e-2)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_forward_mode_and_second_derivatives(form):
    a, b = factors(((2,), (2,)), form)
    y, change = jax.jvp(lambda a, b: matmul(a, b, **form), (a, b), (a, b))
    assert_near(change, 2 * y.astype(jnp.float32))

    def loss(a):
        return jnp.square(matmul(a, b, **form).astype(jnp.float32)).sum()

    product = jax.jvp(jax.grad(loss), (a,), (a,))[1]
    assert_near(product, jax.grad(loss)(a))  # the gradient of a quadratic form is linear


def test_the_bias_has_the_sum_over_rows_as_its_gradient():
    y, bias = normal((3, 5, 4, 6), 1), normal((4, 6), 2)
    got = jax.grad(lambda bias: (plus_bias(y, bias) * y).astype(jnp.float32).sum())(bias)
    assert_near(got, y.astype(jnp.float32).sum((0, 1)))
    each = jax.vmap(jax.grad(lambda bias, y: (plus_bias(y, bias) * y).astype(jnp.float32).sum()), (None, 0))(bias, y)
    assert_near(each, y.astype(jnp.float32).sum(1))
    assert (plus_bias(y, bias) == y + bias[None, None]).all()


def test_no_rows_at_all():
    none, weight = jnp.zeros((0, 7), jnp.bfloat16), normal((7, 3), 1)
    assert matmul(none, weight).shape == (0, 3)
    gradient = jax.grad(lambda weight: matmul(none, weight).astype(jnp.float32).sum())(weight)
    assert gradient.shape == (7, 3) and not gradient.any()
    assert matmul(jnp.zeros((0, 5, 7), jnp.bfloat16), weight).shape == (0, 5, 3)
    assert jax.vmap(lambda x: matmul(x, weight))(jnp.zeros((2, 0, 7), jnp.bfloat16)).shape == (2, 0, 3)
    for dtype in (jnp.bfloat16, jnp.float32):
        assert unembedding({"table": weight}, jnp.zeros((0, 5, 3), dtype)).shape == (0, 5, 7)


def test_nan_is_told_and_stays_in_its_row():
    with jax.debug_nans(False):
        x, weight = normal((5, 7), 1).at[0, 0].set(jnp.nan), normal((7, 4), 2)
        y, pull = jax.vjp(matmul, x, weight)
        gradient = pull(jnp.ones_like(y))[1]
    assert np.isnan(y.astype(np.float32)).all(1).tolist() == [True, False, False, False, False]
    assert np.isnan(gradient.astype(np.float32)).all(1).tolist() == [True] + 6 * [False]


def test_a_training_step_in_bfloat16_multiplies_in_no_other_form():
    model = jann.models.GPT2(vocab=11, positions=8, embed=16, layers=2, heads=2)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), model.init(jax.random.key(0)))
    tokens = jnp.arange(16).reshape(2, 8) % 11
    assert fast_halves(params["tokens"]["table"])
    program = str(jax.make_jaxpr(jax.grad(lambda p: model(p, tokens).astype(jnp.float32).sum()))(params))
    assert half_matmul.name in program and "dot_general" not in program


def test_other_processors_multiply_as_jax_does(monkeypatch):
    monkeypatch.setattr(products, "_has_amx", lambda: False)
    for form in FORMS:
        a, b = factors(((2,), (2,)), form)
        assert_near(matmul(a, b, **form), in_float32(a, b, form))
        program = str(jax.make_jaxpr(lambda a, b, form=form: matmul(a, b, **form))(a, b))
        assert half_matmul.name not in program


def test_products_of_blocks_are_kept_for_the_gradient_as_those_of_float32():
    assert half_matmul.name in jann.depth.KEPT


@pytest.mark.parametrize("lead", [(), (1,), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=str)
def test_unembedding_is_the_product_with_every_row(dtype, lead):
    table, x = normal((9, 7), 1).astype(dtype), normal((*lead, 7), 2).astype(dtype)
    assert_near(unembedding({"table": table}, x), x.astype(jnp.float32) @ table.astype(jnp.float32).T)


def test_a_layer_in_bfloat16_follows_float32():
    p = jann.init(linear_spec(7, {"heads": 2, "head": 3}), jax.random.key(0))
    x = normal((2, 5, 7), 1)

    def loss(p, x):
        return jnp.square(linear(p, x).astype(jnp.float32)).mean()

    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), p)
    got, wanted = jax.grad(loss)(half, x), jax.grad(loss)(p, x.astype(jnp.float32))
    jax.tree.map(assert_near, got, wanted)
