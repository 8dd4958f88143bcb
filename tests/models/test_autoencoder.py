"""Autoencoders against principal components, and the penalties of their codes against hand-worked values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.decomposition import PCA

import jann
from jann.models import Autoencoder, ConvAutoencoder, absolute, sparsity


@pytest.fixture
def model():
    return Autoencoder(inputs=6, hidden=(), code=2)


def test_a_linear_one_with_principal_components_reconstructs_as_they_do(model):
    x = np.random.default_rng(0).normal(size=(50, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
    pca = PCA(2).fit(x)
    axes = pca.components_.T
    params = {
        "encoder": {"layers": [{"weight": axes, "bias": -pca.mean_ @ axes}]},
        "decoder": {"layers": [{"weight": axes.T, "bias": pca.mean_}]},
    }
    params = jax.tree.map(jnp.float32, params)
    np.testing.assert_allclose(model.encode(params, x), pca.transform(x), atol=1e-4)
    np.testing.assert_allclose(model(params, x), pca.inverse_transform(pca.transform(x)), atol=1e-4)


def test_training_a_linear_one_finds_the_error_of_principal_components(model, key):
    """No linear autoencoder loses less (Baldi and Hornik 1989), and all local minima but this one are saddles."""
    x = np.random.default_rng(0).normal(size=(64, 6)) * np.array([3, 2, 1, 0.5, 0.3, 0.1])
    batch = {"image": jnp.float32(x), "target": jnp.float32(x)}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, 800))
    step = jann.make_step(jann.objective(model, jann.regression), optimizer)
    state, history = jax.jit(lambda s: jann.train(step, lambda i: batch, s, 800))(jann.start(model, optimizer, key))
    pca = PCA(2).fit(x)
    least = np.square(pca.inverse_transform(pca.transform(x)) - x).mean()
    np.testing.assert_allclose(history["loss"][-1], least, rtol=1e-3)


@pytest.mark.parametrize("model", [Autoencoder(8, (5,), 3), ConvAutoencoder(2, 8, (3, 4), 3)])
def test_it_is_the_decoder_of_the_code_that_is_tapped(model, key, drawn):
    shape = (8,) if isinstance(model, Autoencoder) else (8, 8, 2)
    params, x = drawn(model), jax.random.normal(key, (2, *shape))

    @jax.jit
    def each_way(params, x):
        output, seen = jann.observe(model)(params, x)
        moved = jann.observe(model, {"code": lambda code, layer: 0 * code})(params, x)[0]
        return output, seen["code"], model.encode(params, x), model.decode(params, seen["code"]), moved

    output, code, encoded, decoded, moved = each_way(params, x)
    assert output.shape == x.shape and code.shape == (2, 3)
    np.testing.assert_allclose(encoded, code, rtol=1e-5)
    np.testing.assert_allclose(decoded, output, rtol=1e-5)
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-5)  # nothing goes round the code


def test_convolutions_ask_for_a_size_that_they_can_halve():
    with pytest.raises(ValueError, match="size=10.*multiple of 4"):
        ConvAutoencoder(1, 10, (8, 16), 2)


def test_sparsity_is_a_kl_of_two_coins():
    code = jnp.array([[0.5, 0.1, 0.3], [0.3, 0.1, 0.1]])  # units are on 0.4, 0.1 and 0.2 of the time
    want = sum(0.1 * np.log(0.1 / q) + 0.9 * np.log(0.9 / (1 - q)) for q in (0.4, 0.1, 0.2))
    np.testing.assert_allclose(sparsity(code, 0.1), want, rtol=1e-5)
    assert abs(sparsity(jnp.full((4, 3), 0.05))) < 1e-6
    assert jnp.isfinite(sparsity(jnp.zeros((4, 3)))) and jnp.isfinite(sparsity(jnp.ones((4, 3))))


def test_absolute_by_hand():
    np.testing.assert_allclose(absolute(jnp.array([[1.0, -2.0], [0.0, 3.0]])), 3.0)


def test_a_penalty_adds_to_the_loss_and_to_its_gradient(model, drawn, key):
    params, x = drawn(model), jax.random.normal(key, (5, 6))
    batch = {"image": x, "target": x}
    plain = jann.objective(model, jann.regression)
    value, (metrics, _) = jann.penalised(plain, "code", absolute, 0.5)(params, batch, None)
    code = model.encode(params, x)
    np.testing.assert_allclose(metrics["code_penalty"], jnp.abs(code).sum(-1).mean(), rtol=1e-5)
    np.testing.assert_allclose(value, plain(params, batch, None)[0] + 0.5 * metrics["code_penalty"], rtol=1e-5)

    def by_hand(params):
        code = model.encode(params, x)
        return jnp.square(model.decode(params, code) - x).mean() + 0.5 * jnp.abs(code).sum(-1).mean()

    loss = jann.penalised(plain, "code", absolute, 0.5)
    got, want = jax.jit(lambda p: (jax.grad(lambda p: loss(p, batch, None)[0])(p), jax.grad(by_hand)(p)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want)


def test_a_penalty_on_no_tap_says_which_there_are(model, drawn):
    loss = jann.penalised(jann.objective(model, jann.regression), "codes", absolute, 1.0)
    with pytest.raises(KeyError, match="'codes'; met were: .*code"):
        loss(drawn(model), {"image": jnp.ones((2, 6)), "target": jnp.ones((2, 6))}, None)
