"""Kernels laid out for one row: the same products, wherever they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.generation import for_decoding, generate, stream
from jann.layers import Turned, linear
from jann.models import GPT2, T5, Llama


@pytest.mark.parametrize("rows", [(), (1,), (3, 5)])
def test_products_are_those_of_the_array(key, rows):
    weight, bias = jax.random.normal(key, (4, 6, 2, 3)), jnp.arange(6.0).reshape(2, 3)
    x = jax.random.normal(jax.random.fold_in(key, 1), (*rows, 4, 6))
    turned = Turned.of(weight, 2)
    assert turned.shape == weight.shape and turned.matrix.shape == (6, 24)
    wanted = linear({"weight": weight, "bias": bias}, x, axes=2)
    np.testing.assert_allclose(linear({"weight": turned, "bias": bias}, x, axes=2), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(turned), weight)
    np.testing.assert_allclose(jnp.tensordot(x, turned, 2), jnp.tensordot(x, weight, 2), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(turned.swapaxes(0, 1), weight.swapaxes(0, 1))


@pytest.mark.parametrize(
    "model", [GPT2(11, 24, 8, 2, 2), Llama(11, 8, 2, 2, 24), T5(11, 8, 2, 2, 4, 20)], ids=lambda m: type(m).__name__
)
def test_models_decode_with_them(model, drawn):
    params = drawn(model)
    ready = for_decoding(model, params)
    kinds = {path: type(leaf) for path, leaf in jann.flatten(ready).items()}
    assert any(kind is Turned for kind in kinds.values())
    assert all("norm" not in path for path, kind in kinds.items() if kind is Turned)
    jann.check(model, ready)
    again = for_decoding(model, ready)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), ready, again))
    for prompts in ([[3, 1, 4], [1, 5]], [[3, 1, 4]]):
        wanted, got = (generate(model, p, prompts, 9) for p in (params, ready))
        np.testing.assert_array_equal(got.tokens, wanted.tokens)
        np.testing.assert_allclose(got.log_probabilities, wanted.log_probabilities, atol=1e-5)
    assert list(stream(model, ready, [3, 1, 4], 9)) == wanted.tokens[0].tolist()


def test_they_are_turned_back_where_they_are_adapted(drawn, key, tmp_path):
    model = GPT2(11, 24, 8, 2, 2)
    listed = jann.core.listed(model, drawn(model))
    ready, tokens = for_decoding(model, listed), np.array([[3, 1, 4]])
    got, want = (jann.adapt.low_rank(model, form, key=key, targets="mlp") for form in (ready, listed))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    factors, rest = jann.adapt.trainable(got)
    moved = jann.combine(rest, jax.tree.map(lambda leaf: leaf + 0.1, factors))
    jann.adapt.save_adapter(tmp_path, model, moved)
    loaded = jann.adapt.load_adapter(tmp_path, model, ready)
    jax.tree.map(np.testing.assert_array_equal, loaded, moved)
    np.testing.assert_allclose(model(jann.adapt.merge(loaded), tokens), model(moved, tokens), rtol=1e-5, atol=1e-5)
    assert np.abs(model(loaded, tokens) - model(listed, tokens)).max() > 0.1
    again = for_decoding(model, loaded)  # whose other kernels are turned
    with pytest.raises(ValueError, match="blocks/0/mlp_in/weight, .* is of low rank already: jann.adapt.merge"):
        jann.adapt.low_rank(model, again, key=key)
    with pytest.raises(ValueError, match="blocks/0/mlp_in/weight, .* is of low rank already: jann.adapt.merge"):
        jann.adapt.load_adapter(tmp_path, model, again)
