"""The VAE's bounds against closed forms: of two Gaussians, and of probabilistic PCA, whose likelihood is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import jann
from jann.models import VAE, elbo, elbo_objective, gaussian_kl, importance_bound


def test_kl_against_numeric_integration():
    mean, log_variance = np.array([0.7, -1.5, 0.0]), np.array([-0.4, 0.9, 0.0])

    def kl(m, v):
        q, p = stats.norm(m, np.exp(v / 2)), stats.norm()
        return integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -15, 15)[0]

    want = [kl(m, v) for m, v in zip(mean, log_variance, strict=True)]
    np.testing.assert_allclose(gaussian_kl(mean[:, None], log_variance[:, None]), want, atol=1e-5)
    np.testing.assert_allclose(gaussian_kl(mean, log_variance), sum(want), atol=1e-5)


def test_sums_of_half_precision_are_of_single(key):
    def half(tree):
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), tree)

    model = VAE(40, (), 8, likelihood="gaussian")
    params = half({**model.init(key), "log_variance": -3.0})
    x = half(0.2 * jax.random.normal(key, (3, 40)))
    decoded, wide = jnp.zeros_like(x), jax.tree.map(jnp.float32, params)
    want = model.log_likelihood(wide, decoded, jnp.float32(x))
    np.testing.assert_allclose(model.log_likelihood(params, decoded, x), want)
    params["encoder"]["layers"][-1]["bias"] = half(jnp.repeat(jnp.array([20.0, -3.0]), 8))
    mean, log_variance = (part.astype(jnp.float32) for part in model.encode(params, x))
    noise = jax.random.normal(jax.random.fold_in(key, 0), mean.shape)
    z = mean + jnp.exp(log_variance / 2) * noise
    want = model.log_likelihood(params, model.decode(params, half(z)), x) + (noise**2 + log_variance - z**2).sum(-1) / 2
    np.testing.assert_allclose(importance_bound(model, params, x, key, 1), want, rtol=1e-5)


def test_likelihoods_are_scipys(key):
    decoded = jax.random.normal(key, (4, 6))
    bits = np.random.default_rng(0).integers(0, 2, (4, 6))
    bernoulli = VAE(6, (), 2).log_likelihood({}, decoded, jnp.float32(bits))
    np.testing.assert_allclose(bernoulli, stats.bernoulli(jax.nn.sigmoid(decoded)).logpmf(bits).sum(-1), rtol=1e-5)
    x = np.random.default_rng(1).normal(size=(4, 6))
    gaussian = VAE(6, (), 2, likelihood="gaussian").log_likelihood({"log_variance": jnp.float32(-0.6)}, decoded, x)
    np.testing.assert_allclose(gaussian, stats.norm(decoded, np.exp(-0.3)).logpdf(x).sum(-1), rtol=1e-5)


# probabilistic PCA: x = W z + b + noise, so x ~ N(b, W Wᵀ + σ² I), and z given x is Gaussian too (Tipping, Bishop 1999)


@pytest.fixture
def linear():
    """A linear VAE with the exact posterior as its encoder, images, and log p(x) of each."""
    rng, latent, variance = np.random.default_rng(0), 2, 0.3
    axes = np.linalg.qr(rng.normal(size=(5, latent)))[0] * np.array([2.0, 0.7])  # orthogonal: a diagonal posterior
    offset = rng.normal(size=5)
    precision = np.diag(axes.T @ axes) + variance
    encoder = axes / precision
    model = VAE(5, (), latent, likelihood="gaussian")
    weight = np.concatenate([encoder, np.zeros((5, latent))], 1)
    bias = np.concatenate([-offset @ encoder, np.log(variance / precision)])
    params = {
        "encoder": {"layers": [{"weight": weight, "bias": bias}]},
        "decoder": {"layers": [{"weight": axes.T, "bias": offset}]},
        "log_variance": np.log(variance),
    }
    marginal = stats.multivariate_normal(offset, axes @ axes.T + variance * np.eye(5))
    x = marginal.rvs(20, random_state=1)
    return model, jax.tree.map(jnp.float32, params), jnp.float32(x), marginal.logpdf(x)


def many(bound, n, key):
    """The mean over n keys, and its standard error."""
    values = jax.jit(lambda keys: jax.lax.map(bound, keys))(jax.random.split(key, n))
    return np.asarray(values.mean(0)), np.asarray(values.std(0) / np.sqrt(n))


def test_with_the_exact_posterior_both_bounds_are_the_likelihood(linear, key):
    model, params, x, likelihood = linear
    # p(x|z) p(z) / q(z|x) is p(x) whatever z, so that one draw is enough
    np.testing.assert_allclose(importance_bound(model, params, x, key, 1), likelihood, rtol=1e-4)
    np.testing.assert_allclose(importance_bound(model, params, x, key, 7), likelihood, rtol=1e-4)
    mean, error = many(lambda k: elbo(model, params, x, k)["elbo"], 4000, key)
    assert np.all(np.abs(mean - likelihood) < 5 * error) and error.max() < 0.05


def spoiled(params):
    """An encoder that is unsure by a factor of two, and off."""
    last = params["encoder"]["layers"][0]
    bias = last["bias"] + jnp.array([0.3, -0.2, np.log(2.0), np.log(2.0)])
    return {**params, "encoder": {"layers": [{**last, "bias": bias}]}}


def test_the_gap_of_another_encoder_is_its_kl_to_the_posterior(linear, key):
    model, params, x, likelihood = linear
    worse = spoiled(params)
    (m, v), (n, w) = model.encode(worse, x), model.encode(params, x)
    gap = 0.5 * (jnp.exp(v - w) + jnp.square(m - n) * jnp.exp(-w) - 1 - (v - w)).sum(-1)
    mean, error = many(lambda k: elbo(model, worse, x, k)["elbo"], 4000, key)
    assert np.all(np.abs(mean - (likelihood - gap)) < 5 * error)
    assert gap.min() > 20 * error.max(), "the gap is large enough to be seen"


def test_the_importance_bound_rises_from_the_elbo_to_the_likelihood(linear, key):
    model, params, x, likelihood = linear
    worse = spoiled(params)
    gaps = []
    for samples, n in ((1, 4000), (10, 1000), (500, 60)):
        mean, error = many(lambda k: importance_bound(model, worse, x, k, samples), n, key)  # noqa: B023
        assert np.all(mean < likelihood + 5 * error), "it stays a lower bound"
        gaps.append(float((likelihood - mean).mean()))
    first = many(lambda k: elbo(model, worse, x, k)["elbo"], 4000, key)[0]
    np.testing.assert_allclose(gaps[0], (likelihood - first).mean(), atol=0.05)
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] and gaps[2] < 0.01


def test_gradients_at_the_exact_posterior_are_those_of_the_likelihood(linear, key):
    """In the mean over draws: of the decoder that of log p(x), and of the encoder none, for it is at its best."""
    model, params, x, _ = linear

    def likelihood(params):
        weight, bias = params["decoder"]["layers"][0]["weight"], params["decoder"]["layers"][0]["bias"]
        covariance = weight.T @ weight + jnp.exp(params["log_variance"]) * jnp.eye(5)
        logpdf = jax.scipy.stats.multivariate_normal.logpdf
        return jax.vmap(lambda x: logpdf(x, bias, covariance))(x).mean()

    want = jann.flatten(jax.grad(likelihood)(params))
    bound = jax.grad(lambda params, key: elbo(model, params, x, key)["elbo"].mean())
    keys = jax.random.split(key, 4000)
    draws = jann.flatten(jax.jit(lambda keys: jax.lax.map(partial(bound, params), keys))(keys))
    for path, values in draws.items():
        error = np.asarray(values.std(0)) / np.sqrt(len(keys))
        assert np.all(np.abs(values.mean(0) - want[path]) < 5 * error + 1e-5), path
    assert jnp.abs(want["decoder/layers/0/weight"]).max() > 0.05, "the decoder is not at its best"


# as a model


@pytest.fixture
def conditional(drawn):
    model = VAE(6, (5,), 2, classes=3)
    return model, drawn(model)


def test_no_key_decodes_the_mean_and_a_key_draws_around_it(conditional, key):
    model, params = conditional
    x, label = jax.random.normal(key, (6,)), jnp.array(1)
    mean, log_variance = model.encode(params, x, label)
    np.testing.assert_allclose(model(params, x, label), model.decode(params, mean, label), rtol=1e-5)
    draw = jax.vmap(lambda k: jann.observe(model)(params, x, label, key=k)[1]["latent"])
    z = jax.jit(draw)(jax.random.split(key, 4000))
    np.testing.assert_allclose(z.mean(0), mean, atol=5 * float(jnp.exp(log_variance / 2).max()) / 4000**0.5)
    np.testing.assert_allclose(z.var(0), jnp.exp(log_variance), rtol=0.15)


def test_the_label_is_one_more_input_to_both_parts(conditional, key):
    model, params = conditional
    x, label = jax.random.normal(key, (4, 6)), jnp.array([0, 2, 1, 2])
    beside = jnp.concatenate([x, jnp.eye(3)[label]], -1)
    mean, _ = model.encode(params, x, label)
    np.testing.assert_allclose(mean, model.encoder(params["encoder"], beside)[:, :2], rtol=1e-5)
    changed = model.decode(params, mean, (label + 1) % 3)
    assert jnp.abs(changed - model.decode(params, mean, label)).min() > 1e-4
    one = elbo(model, params, x[2], key, label[2])  # one example, as vmap sees it
    np.testing.assert_allclose(
        jax.vmap(lambda x, label: elbo(model, params, x, key, label)["elbo"])(x, label)[2], one["elbo"], rtol=1e-5
    )


def test_samples_are_means_of_the_decoder(conditional, key):
    model, params = conditional
    label = jnp.array([[0, 1, 2], [2, 1, 0]])
    samples = model.sample(params, key, (2, 3), label)
    z = jax.random.normal(key, (2, 3, 2))
    np.testing.assert_allclose(samples, jax.nn.sigmoid(model.decode(params, z, label)), rtol=1e-5)


def test_the_objective_weighs_the_kl(conditional, key):
    model, params = conditional
    batch = {"image": jnp.ones((3, 6)), "label": jnp.array([0, 1, 2])}
    terms = elbo(model, params, batch["image"], key, batch["label"])
    value, (metrics, _) = elbo_objective(model, 4.0)(params, batch, key)
    np.testing.assert_allclose(value, (4 * terms["kl"] - terms["reconstruction"]).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], metrics["reconstruction"] - metrics["kl"], rtol=1e-5)
    assert elbo_objective(model, 4.0) is elbo_objective(model, 4.0)


def test_what_is_wrong_is_said(conditional, key):
    model, params = conditional
    x = jnp.ones((2, 6))
    with pytest.raises(ValueError, match="'bernoulli' or 'gaussian', got 'poisson'"):
        VAE(6, (5,), 2, likelihood="poisson")
    with pytest.raises(ValueError, match="classes=3 needs labels"):
        model(params, x)
    with pytest.raises(ValueError, match="classes=0 takes no labels"):
        VAE(6, (5,), 2).encode(params, x, jnp.array([0, 1]))
    with pytest.raises(ValueError, match="label 3: there are classes 0 to 2"):
        model(params, x, jnp.array([0, 3]))
    with pytest.raises(ValueError, match="samples=0"):
        importance_bound(model, params, x, key, 0, jnp.array([0, 1]))
