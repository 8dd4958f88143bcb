"""Attention against its formula, with masks, shared heads, and the weights observed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.layers import attention, attention_spec, dot_product_attention, linear, linear_spec
from jann.layers.causal import causal_by_parts


def by_formula(query, keys, values, allowed):
    """One example, [time, heads, head], written out."""
    out = np.zeros(query.shape)
    shared = query.shape[1] // keys.shape[1]
    for h in range(query.shape[1]):
        scores = query[:, h] @ keys[:, h // shared].T / np.sqrt(query.shape[-1])
        weights = np.where(allowed[h], np.exp(scores), 0)
        out[:, h] = weights / weights.sum(-1, keepdims=True) @ values[:, h // shared]
    return out


@pytest.fixture
def qkv():
    random = np.random.default_rng(0)
    return [random.normal(size=(2, 3, *shape)).astype(np.float32) for shape in ((5, 4, 6), (7, 2, 6), (7, 2, 6))]


@pytest.mark.parametrize("observed", [False, True])
def test_masked_with_shared_heads(qkv, observed):
    mask = np.random.default_rng(1).random((2, 3, 4, 5, 7)) < 0.5
    mask[..., 0] = True
    function = jann.observe(dot_product_attention) if observed else dot_product_attention
    found = jax.jit(function)(*qkv, mask)
    found, taps = found if observed else (found, None)
    for i, j in np.ndindex(2, 3):
        want = by_formula(*(part[i, j] for part in qkv), mask[i, j])
        np.testing.assert_allclose(found[i, j], want, rtol=1e-4, atol=1e-5)
    if observed:
        assert taps["attention"].shape == (2, 3, 4, 5, 7)
        np.testing.assert_allclose(taps["attention"].sum(-1), 1, rtol=1e-5)
        assert not taps["attention"][~mask].any()


@pytest.mark.parametrize("observed", [False, True])
def test_causal_by_gradients(key, observed):
    x = jax.random.normal(key, (6, 8))
    params = jann.init(attention_spec(8, 2), key)

    def at(x, t):
        function = jann.observe(attention) if observed else attention
        out = function(params, x, causal=True)
        return (out[0] if observed else out)[t].sum()

    for t in (0, 3, 5):
        moved = np.abs(jax.grad(at)(x, t)).sum(-1) > 0
        np.testing.assert_array_equal(moved, np.arange(6) <= t)


def test_one_example_a_batch_and_vmap_agree(key):
    params = jann.init(attention_spec(8, 2, memory=5), key)
    x, memory = jax.random.normal(key, (3, 4, 8)), jax.random.normal(key, (3, 6, 5))
    batch = attention(params, x, memory)
    np.testing.assert_allclose(jax.vmap(attention, (None, 0, 0))(params, x, memory), batch, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(attention(params, x[0], memory[0]), batch[0], rtol=1e-5, atol=1e-6)
    one = attention(params, x[0], memory[0], mask=jnp.arange(6) < 4)
    np.testing.assert_allclose(one, attention(params, x[0], memory[0, :4]), rtol=1e-5, atol=1e-6)


def test_dropout_of_weights_keeps_their_mean(key):
    q = k = v = jnp.ones((4, 1, 3))
    draws = jax.vmap(lambda key: dot_product_attention(q, k, v, rate=0.5, key=key))(jax.random.split(key, 4000))
    assert set(np.round(np.unique(draws), 3)) <= {0, 0.5, 1, 1.5, 2}
    np.testing.assert_allclose(draws.mean(0), 1, atol=0.05)
    np.testing.assert_array_equal(dot_product_attention(q, k, v, rate=0.5), dot_product_attention(q, k, v))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(qkv, dtype):
    low = jax.jit(dot_product_attention)(*(jnp.asarray(part, dtype) for part in qkv))
    assert low.dtype == dtype
    np.testing.assert_allclose(low.astype(jnp.float32), dot_product_attention(*qkv), atol=0.03)


def test_linear_over_several_axes(key):
    spec = linear_spec({"heads": 3, "head": 4}, {"rows": 2, "columns": 5})
    p = jann.init(spec, key)
    x = jax.random.normal(key, (7, 3, 4))
    want = np.einsum("bhd,hdrc->brc", x, p["weight"]) + np.asarray(p["bias"])
    np.testing.assert_allclose(linear(p, x, axes=2), want, rtol=1e-5, atol=1e-5)
    assert spec["weight"].fan_in == 12 and linear_spec({"heads": 3, "head": 4}, {"rows": 2, "columns": 5}) == spec
    many = jann.init(linear_spec({"a": 20, "b": 50}, {"c": 100, "d": 2}), key)["weight"]
    assert abs(float(many.std()) * np.sqrt(1000) - 1) < 0.02, "drawn by the fan-in of all inputs"
    with pytest.raises(jann.ShapeError, match=r"takes inputs\[..., 3, 4\], got \[7, 4, 3\]"):
        linear(p, jnp.ones((7, 4, 3)), axes=2)


def test_errors_name_the_mend(qkv):
    with pytest.raises(ValueError, match="heads=3 must divide embed=8"):
        attention_spec(8, 3)
    with pytest.raises(ValueError, match="key_value_heads=3 must divide heads=4"):
        attention_spec(8, 4, key_value_heads=3)
    with pytest.raises(ValueError, match=r"does not fit scores \[2, 3, 4, 5, 7\]"):
        dot_product_attention(*qkv, mask=jnp.ones((5, 6), bool))
    with pytest.raises(ValueError, match=r"keys \[2, 3, 0, 2, 6\] .* there is no place to attend to"):
        dot_product_attention(qkv[0], *(part[:, :, :0] for part in qkv[1:]))
    assert dot_product_attention(qkv[0][:, :, :0], *qkv[1:]).shape == (2, 3, 0, 4, 6)


@pytest.mark.parametrize("time", [1, 33, 130])
def test_causal_attention_by_parts_equals_the_whole(key, time):
    """Against JAX's own, with gradients; lengths that parts do not divide."""
    query, keys, values, weights = jax.random.normal(key, (4, 2, time, 3, 8))

    def value_and_gradients(function):
        return jax.value_and_grad(lambda *x: (function(*x) * weights).sum(), (0, 1, 2))(query, keys, values)

    got = value_and_gradients(lambda *x: causal_by_parts(*x, 0.3))
    wanted = value_and_gradients(lambda *x: jax.nn.dot_product_attention(*x, scale=0.3, is_causal=True))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6), got, wanted)


def test_causal_attention_by_parts_has_second_derivatives(key):
    x, direction = jax.random.normal(key, (2, 40, 2, 4))

    def loss(x):
        return (causal_by_parts(x, x[::-1], x + 1, 0.5) ** 2).sum()

    def gradient_along(step):
        return jax.grad(loss)(x + step * direction)

    found = jax.jvp(jax.grad(loss), (x,), (direction,))[1]
    np.testing.assert_allclose(found, (gradient_along(1e-2) - gradient_along(-1e-2)) / 2e-2, rtol=2e-2, atol=2e-2)


def test_attention_of_far_scores_neither_overflows_nor_vanishes():
    """Scores of ±10⁴ give weights of 0 and 1."""
    x = jnp.array([[1.0], [-1.0], [1.0]])[:, None, :]
    np.testing.assert_allclose(causal_by_parts(x, x, x, 1e4)[:, 0, 0], [1, -1, 1], atol=1e-6)


def test_half_precision_rounds_once(key):
    """Sums are taken in float32: what is left is the rounding of the inputs' products and of the result."""
    x = jax.random.normal(key, (64, 2, 32), jnp.bfloat16)
    exact = causal_by_parts(*(x.astype(jnp.float32),) * 3, 0.2)
    found = causal_by_parts(x, x, x, 0.2)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=2**-7, atol=2**-7)
    p = {"weight": jax.random.normal(key, (512, 8), jnp.bfloat16)}
    row = jax.random.normal(jax.random.key(1), (1, 512), jnp.bfloat16)
    wanted = row.astype(jnp.float32) @ p["weight"].astype(jnp.float32)
    np.testing.assert_array_equal(linear(p, row), wanted.astype(jnp.bfloat16))


def test_a_bias_keeps_its_precision_and_observing_changes_nothing(key):
    query, keys, values = jax.random.normal(key, (3, 1, 16, 2, 8), jnp.bfloat16)
    bias = 60 * jax.random.normal(jax.random.fold_in(key, 1), (1, 2, 16, 16))
    plain = dot_product_attention(query, keys, values, bias=bias)
    seen, _ = jann.observe(dot_product_attention)(query, keys, values, bias=bias)
    exact = dot_product_attention(*(part.astype(jnp.float32) for part in (query, keys, values)), bias=bias)
    for got in (plain, seen):
        np.testing.assert_allclose(got.astype(jnp.float32), exact, atol=0.02)
