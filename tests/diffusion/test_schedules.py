"""Noise schedules: their closed forms, what the chain of steps adds up to, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann import diffusion
from jann.diffusion import Schedule, cosine_schedule, linear_schedule, scaled_linear_schedule


@pytest.mark.parametrize("schedule", [linear_schedule(), scaled_linear_schedule(50), cosine_schedule(200)])
def test_the_marginal_is_what_the_chain_adds_up_to(schedule):
    """Mean and variance of x_t, step by step from x_t = sqrt(1 - beta) x_{t-1} + sqrt(beta) noise, for random x_0."""
    alpha_bar = np.array(schedule.alpha_bar)
    betas = 1 - alpha_bar / np.append(1, alpha_bar[:-1])
    mean, variance = 3.0, 0.25  # those of x_0
    for t, beta in enumerate(betas):
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
        np.testing.assert_allclose(mean, alpha_bar[t] ** 0.5 * 3.0, rtol=1e-9)
        np.testing.assert_allclose(variance, alpha_bar[t] * 0.25 + 1 - alpha_bar[t], rtol=1e-9)


def test_samples_of_the_chain_and_of_the_marginal_have_the_closed_moments(key):
    schedule, n = linear_schedule(20, 0.01, 0.3), 40_000
    alpha_bar = jnp.array(schedule.alpha_bar)
    betas = 1 - alpha_bar / jnp.append(1, alpha_bar[:-1])

    def step(x, given):
        beta, key = given
        return jnp.sqrt(1 - beta) * x + jnp.sqrt(beta) * jax.random.normal(key, x.shape), None

    x0 = 2 + 0.5 * jax.random.normal(jax.random.fold_in(key, 0), (n,))
    walked, _ = jax.lax.scan(step, x0, (betas, jax.random.split(key, 20)))
    jumped = diffusion.noised(x0, jax.random.normal(jax.random.fold_in(key, 1), (n,)), schedule.at(19))
    mean, variance = alpha_bar[-1] ** 0.5 * 2, alpha_bar[-1] * 0.25 + 1 - alpha_bar[-1]
    for x in (walked, jumped):
        assert abs(x.mean() - mean) < 4 * (variance / n) ** 0.5
        assert abs(x.var() - variance) < 4 * variance * (2 / n) ** 0.5


def test_closed_forms():
    linear = linear_schedule()
    assert np.isclose(linear.alpha_bar[0], 1 - 1e-4) and np.isclose(linear.alpha_bar[-1], 4.0358e-5, rtol=1e-4)
    cosine = cosine_schedule(1000)
    t = np.arange(1, 900) / 1000  # before the largest beta cuts in
    wanted = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine.alpha_bar[:899], wanted, rtol=1e-9)
    scaled = np.array(scaled_linear_schedule(3, 0.01, 0.09).alpha_bar)
    np.testing.assert_allclose(scaled, np.cumprod(1 - np.array([0.1, 0.2, 0.3]) ** 2))


def test_a_schedule_is_a_value():
    assert cosine_schedule(10) == cosine_schedule(10) != cosine_schedule(11)
    assert hash(cosine_schedule(10)) == hash(cosine_schedule(10))
    assert repr(linear_schedule()) == "Schedule(1000 steps, alpha_bar 0.9999 to 4.036e-05)"
    taken = jax.jit(Schedule.at, static_argnums=0)(Schedule((0.9, 0.5)), jnp.array([1, 0]))
    np.testing.assert_allclose(taken, [0.5, 0.9])
    with jax.debug_nans(False):
        assert jnp.isnan(Schedule((0.9, 0.5)).at(jnp.array([2, -1]))).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule((0.9, 0.7, 0.8, 0.1)), "step 2 has 0.8 after 0.7.*reversed"),
        (lambda: Schedule(tuple(linear_schedule(5).alpha_bar[::-1])), "must fall from step to step"),
        (lambda: Schedule((0.9, 0.9)), "must fall"),
        (lambda: Schedule((1.0, 0.5)), "between 0 and 1, but step 0 has 1.0"),
        (lambda: Schedule((0.5, float("nan"))), "step 1 has nan"),
        (lambda: Schedule(()), "one number a step"),
        (lambda: Schedule.from_betas([0.1, -0.1]), "beta lies between 0 and 1, but step 1 has -0.1"),
        (lambda: linear_schedule(0), "steps=0"),
    ],
)
def test_bad_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_times_are_integers():
    with pytest.raises(TypeError, match="integers from 0 to 1, got float32"):
        Schedule((0.9, 0.5)).at(0.5)
