"""The adversarial step against values worked by hand, and on a mixture of Gaussians that it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.models import MLP, Discriminator, Generator, chain
from jann.training import gradient_penalty
from jann.training.adversarial import hinge, non_saturating, wasserstein

BOTH = ("generator", "discriminator")


def one_score(x):
    return x[..., 0]


GENERATOR, CRITIC = MLP(3, (4,), 2, jnp.tanh), chain(MLP(2, (4,), 1, jnp.tanh), one_score)
SGD = {"generator": optax.sgd(0.1), "discriminator": optax.sgd(0.2)}


def test_losses_by_hand():
    real, fake = jnp.array([2.0, -1.0]), jnp.array([0.5, -3.0])

    def p(score):
        return 1 / (1 + np.exp(-np.array(score)))

    got = non_saturating(real, fake)
    want = -np.log(p([2.0, -1.0])).mean() - np.log(1 - p([0.5, -3.0])).mean()
    np.testing.assert_allclose(got["discriminator"], want, rtol=1e-6)
    np.testing.assert_allclose(got["generator"], -np.log(p([0.5, -3.0])).mean(), rtol=1e-6)
    got = hinge(real, fake)  # max(0, -1), max(0, 2); max(0, 1.5), max(0, -2)
    np.testing.assert_allclose([got["discriminator"], got["generator"]], [1.0 + 0.75, 1.25], rtol=1e-6)
    got = wasserstein(real, fake)
    np.testing.assert_allclose([got["discriminator"], got["generator"]], [-1.25 - 0.5, 1.25], rtol=1e-6)


def test_the_penalty_of_a_linear_critic_is_known(key):
    weight = jnp.array([[1.0, 2.0], [-2.0, 4.0]])
    real, fake = jax.random.normal(key, (2, 6, 2, 2))
    got = gradient_penalty(lambda x: jnp.einsum("nij,ij->n", x, weight), real, fake, key)
    np.testing.assert_allclose(got, (5.0 - 1) ** 2, rtol=1e-6)  # √(1 + 4 + 4 + 16) = 5
    for dtype in (jnp.float32, jnp.float16):
        pairs = real.astype(dtype), fake.astype(dtype)
        flat = jax.grad(lambda w, pairs=pairs: gradient_penalty(lambda x: w * x[:, 0, 0], *pairs, key))(dtype(0))
        assert jnp.isfinite(flat)


def test_the_penalty_is_taken_between_the_pairs(key):
    """Of the critic |x|² / 2, whose gradient is x itself: between 1 and 3 along a line, so (|x| − 1)² has mean 4/3."""
    real, fake = jnp.ones((20_000, 1)), jnp.full((20_000, 1), 3.0)
    got = gradient_penalty(lambda x: jnp.square(x).sum(-1) / 2, real, fake, key)
    np.testing.assert_allclose(got, 4 / 3, rtol=0.02)


def test_the_penalty_has_a_gradient_through_convolutions(key):
    """The gradient of a gradient, against finite differences."""
    critic = Discriminator(4, 1, (3, 4), batch_norm=False)
    params = jax.tree.map(lambda leaf: 10 * leaf, critic.init(key))  # they start small, and so would all slopes be
    real, fake = jax.random.normal(key, (2, 3, 4, 4, 1))

    def cost(params, real, fake):
        return gradient_penalty(lambda x: critic(params, x), real, fake, key)

    errors = jann.analysis.check_gradients(cost, params, real, fake, tolerance=1e-4)
    assert jnp.abs(jax.grad(cost)(params, real, fake)["convs"][0]["weight"]).max() > 1e-3 and len(errors) == 6


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "wasserstein"])
def test_a_step_is_both_updates_in_turn(loss, key):
    state = jann.start_adversarial(GENERATOR, CRITIC, SGD, key)
    batch = {"x": jax.random.normal(jax.random.key(1), (5, 2))}
    step = jann.adversarial_step(GENERATOR, CRITIC, SGD, loss, latent=3, inputs="x", average=0.5)
    after, metrics = jax.jit(step)(state, batch)
    losses = {"non_saturating": non_saturating, "hinge": hinge, "wasserstein": wasserstein}[loss]
    key = jax.random.fold_in(state.key, 0)
    generator, critic = state.params["generator"], state.params["discriminator"]

    def fakes(generator, name):
        return GENERATOR(generator, jax.random.normal(jann.fold(jann.fold(key, name), "latent"), (5, 3)))

    def critics(critic):
        return losses(CRITIC(critic, batch["x"]), CRITIC(critic, fakes(generator, "discriminator_0")))["discriminator"]

    value, gradients = jax.value_and_grad(critics)(critic)
    critic = jax.tree.map(lambda p, g: p - 0.2 * g, critic, gradients)

    def generators(generator):
        scores = CRITIC(critic, fakes(generator, "generator"))
        return losses(scores, scores)["generator"]

    other, gradients = jax.value_and_grad(generators)(generator)
    generator = jax.tree.map(lambda p, g: p - 0.1 * g, generator, gradients)
    want = {"generator": generator, "discriminator": critic}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.params, want)
    np.testing.assert_allclose(metrics["discriminator_loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["generator_loss"], other, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], value + other, rtol=1e-5)
    # the first average is the weights themselves; eval_params are the generator's
    got = jann.eval_params(after)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, generator)


def test_the_critics_steps_divide_the_batch(key):
    state = jann.start_adversarial(GENERATOR, CRITIC, SGD, key)
    batch = {"x": jax.random.normal(jax.random.key(1), (6, 2))}
    still = {"generator": optax.set_to_zero(), "discriminator": optax.sgd(0.2)}
    twice = jann.adversarial_step(GENERATOR, CRITIC, still, latent=3, inputs="x", critic_steps=2)
    once = jann.adversarial_step(GENERATOR, CRITIC, still, latent=3, inputs="x")
    halves = [jax.tree.map(lambda x: x[:3], batch), jax.tree.map(lambda x: x[3:], batch)]
    got, first = (jax.jit(step)(state, given)[0] for step, given in ((twice, batch), (once, halves[0])))
    moved = [jax.tree.map(jnp.subtract, s.params["discriminator"], state.params["discriminator"]) for s in (got, first)]
    sizes = [float(optax.tree.norm(tree)) for tree in moved]
    assert sizes[0] > 1.3 * sizes[1], "two steps go further than the first of them"
    # with another second half, only the second step changes: nothing of it is in the first
    other = {"x": batch["x"].at[3:].add(1.0)}
    changed = jax.jit(twice)(state, other)[0]
    assert optax.tree.norm(jax.tree.map(jnp.subtract, changed.params, got.params)) > 1e-3
    with pytest.raises(ValueError, match="critic_steps=4 does not divide the batch of 6"):
        jann.adversarial_step(GENERATOR, CRITIC, SGD, latent=3, inputs="x", critic_steps=4)(state, batch)


def test_statistics_and_average_are_what_samples(key):
    """After one step the running statistics are those of the batch that the generator was trained on."""
    generator, discriminator = Generator(3, 4, 1, (4,), classes=2), Discriminator(4, 1, (4,), classes=2)
    state = jann.start_adversarial(generator, discriminator, SGD, key)
    batch = {"image": jnp.ones((4, 4, 4, 1)), "label": jnp.array([0, 1, 1, 0])}
    step = jann.adversarial_step(generator, discriminator, SGD, latent=3, labels="label")
    after, _ = jax.jit(step)(state, batch)
    part = jann.fold(jax.random.fold_in(state.key, 0), "generator")
    z = jax.random.normal(jann.fold(part, "latent"), (4, 3))
    statistics = jann.flatten(generator.apply(state.params["generator"], z, batch["label"])[1])
    params = jann.eval_params(after)
    jann.check(generator, params)
    for path, value in statistics.items():
        np.testing.assert_allclose(jann.flatten(params)[path], value, rtol=1e-5, atol=1e-6)


def test_what_is_wrong_is_said():
    make = partial(jann.adversarial_step, GENERATOR, CRITIC, SGD, latent=3)
    with pytest.raises(ValueError, match="'minimax': there are non_saturating, hinge, wasserstein"):
        make("minimax")
    with pytest.raises(ValueError, match="critic_steps=0"):
        make(critic_steps=0)
    with pytest.raises(ValueError, match="batch norm.*norms/0/mean"):
        jann.adversarial_step(Generator(), Discriminator(), SGD, "wasserstein", latent=64, penalty=10.0)


CENTRES = jnp.array([[1.0, 1.0], [-1.0, 0.0]])


def mixture(step):
    """384 points of two Gaussians with deviation 0.2, of which the second has a share of 0.3."""
    key = jax.random.fold_in(jax.random.key(7), step)
    which = jax.random.bernoulli(jax.random.fold_in(key, 0), 0.3, (384,)).astype(int)
    return {"x": CENTRES[which] + 0.2 * jax.random.normal(jax.random.fold_in(key, 1), (384, 2))}


def test_a_mixture_of_gaussians_is_learned(key):
    """Its mean, covariance and shares, in 800 steps of two small networks."""
    generator, critic = MLP(4, (32, 32), 2), chain(MLP(2, (32, 32), 1), one_score)
    optimizers = {name: optax.adam(2e-3, b1=0.5, b2=0.9) for name in BOTH}
    step = jann.adversarial_step(
        generator, critic, optimizers, "wasserstein", latent=4, inputs="x", penalty=1.0, critic_steps=3, average=0.99
    )
    state = jann.start_adversarial(generator, critic, optimizers, key)
    state, _ = jax.jit(partial(jann.train, step, mixture, n=800))(state)
    x = generator(jann.eval_params(state), jax.random.normal(jax.random.key(9), (4000, 4)))
    apart = np.array(CENTRES[0] - CENTRES[1])
    np.testing.assert_allclose(x.mean(0), [0.4, 0.7], atol=0.1)
    np.testing.assert_allclose(jnp.cov(x.T), 0.21 * np.outer(apart, apart) + 0.04 * np.eye(2), atol=0.12)
    np.testing.assert_allclose((x @ apart < 0.5).mean(), 0.3, atol=0.05)
