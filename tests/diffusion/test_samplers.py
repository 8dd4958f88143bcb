"""Samplers on Gaussian data, for which the best prediction is known, so that what they must give is known too."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann import diffusion
from jann.diffusion import PREDICTIONS, ddim, ddpm, euler, flow_times, heun, spaced_times, target

MEAN, DEVIATION = 1.5, 0.4
SCHEDULE = diffusion.linear_schedule(200, 5e-4, 0.1)
N = 20_000


def best(prediction, schedule=SCHEDULE):
    """E[target | x_t] for data of N(MEAN, DEVIATION²): everything is linear in E[x_0 | x_t]."""

    def predict(x, t):
        level = schedule.at(t)
        signal, noise_variance = jnp.sqrt(level), 1 - level
        x0 = MEAN + signal * DEVIATION**2 / (level * DEVIATION**2 + noise_variance) * (x - signal * MEAN)
        return target(x0, (x - signal * x0) / jnp.sqrt(noise_variance), level, prediction)

    return predict


def best_velocity(x, t):
    """E[data - noise | x_t] for data of N(MEAN, DEVIATION²)."""
    variance = (1 - t) ** 2 + t**2 * DEVIATION**2
    return MEAN + (t * DEVIATION**2 - (1 - t)) / variance * (x - t * MEAN)


def moments(x):
    return x.mean(), x.std()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_gives_mean_and_deviation(prediction, eta, key):
    @jax.jit
    def samples(noise, key):
        return moments(ddim(best(prediction), noise, SCHEDULE, eta=eta, key=key, prediction=prediction))

    mean, deviation = samples(jax.random.normal(key, (N,)), jax.random.key(1))
    assert abs(mean - MEAN) < 0.015 and abs(deviation - DEVIATION) < 0.015


def ddpm_moments(steps, variance):
    """Mean and deviation of what ddpm gives with the best prediction, by their exact recursion: all is linear in x."""
    levels = np.append(np.array(SCHEDULE.alpha_bar)[spaced_times(SCHEDULE.steps, steps)], 1.0)
    mean, spread = 0.0, 1.0
    for level, previous in pairwise(levels):
        alpha, slope = level / previous, level**0.5 * DEVIATION**2 / (level * DEVIATION**2 + 1 - level)
        of_x0, of_x = previous**0.5 * (1 - alpha) / (1 - level), alpha**0.5 * (1 - previous) / (1 - level)
        drawn = (1 - alpha) * ((1 - previous) / (1 - level) if variance == "small" else previous < 1)
        mean = of_x0 * (MEAN + slope * (mean - level**0.5 * MEAN)) + of_x * mean
        spread = (of_x0 * slope + of_x) ** 2 * spread + drawn
    return mean, spread**0.5


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddpm_gives_mean_and_deviation(prediction, variance, key):
    """In 20 steps those of its own recursion (the reverse of a long step is no Gaussian of these variances)."""

    @jax.jit
    def samples(noise, key):
        return moments(ddpm(best(prediction), noise, SCHEDULE, key, 20, prediction=prediction, variance=variance))

    wanted = ddpm_moments(20, variance)
    np.testing.assert_allclose(samples(jax.random.normal(key, (N,)), jax.random.key(1)), wanted, atol=0.015)


def test_ddpm_of_many_steps_gives_the_data():
    fine = ddpm_moments(200, "small")
    assert np.isclose(fine[0], MEAN, atol=0.01) and np.isclose(fine[1], DEVIATION, atol=0.05)
    assert abs(fine[1] - DEVIATION) < 0.3 * abs(ddpm_moments(20, "small")[1] - DEVIATION)


def test_a_single_point_is_met_exactly_by_the_large_variance_too(key):
    """The last step draws no noise: with x_0 known at each step, every sample ends in it."""

    def known(x, t):
        return jnp.full_like(x, 0.7)

    for variance in ("small", "large"):
        x = ddpm(known, jax.random.normal(key, (50,)), SCHEDULE, key, 10, prediction="x0", variance=variance)
        np.testing.assert_allclose(x, 0.7, rtol=1e-5)


def test_ddim_with_eta_1_is_ddpm(key):
    """The same noise, the same posterior (Song et al. 2021, section 4.1)."""
    noise = jax.random.normal(key, (7,))
    ours = ddim(best("noise"), noise, SCHEDULE, 20, eta=1.0, key=key)
    np.testing.assert_allclose(ours, ddpm(best("noise"), noise, SCHEDULE, key, 20), rtol=1e-4, atol=1e-5)


def test_flow_samplers_converge_with_their_orders():
    """The exact path ends in MEAN + DEVIATION · noise; halving the step divides the error by 2 and by 4."""
    noise = jnp.array([-1.5, -0.2, 0.7, 2.0])

    def error(sampler, steps):
        return float(jnp.abs(sampler(best_velocity, noise, flow_times(steps)) - (MEAN + DEVIATION * noise)).max())

    assert error(heun, 80) < 1e-3
    assert 1.8 < error(euler, 40) / error(euler, 80) < 2.2
    assert 3.4 < error(heun, 20) / error(heun, 40) < 4.6


def test_ddim_converges_to_the_same_path_of_first_order():
    """alpha_bar near 0 at the end: noise goes to MEAN + DEVIATION · noise (up to what is left of the signal there)."""
    noise = jnp.array([-1.5, -0.2, 0.7, 2.0])
    fine = diffusion.cosine_schedule(4000)

    def error(steps):
        x = ddim(best("v", fine), noise, fine, steps, prediction="v")
        return float(jnp.abs(x - (MEAN + DEVIATION * noise)).max())

    assert error(1000) < 0.01
    assert 1.5 < error(25) / error(50) < 2.5


def test_clipping_keeps_the_image_in_range(key):
    noise = 3 * jax.random.normal(key, (100,))
    free = ddim(best("v"), noise, SCHEDULE, 10, prediction="v")
    clipped = ddim(best("v"), noise, SCHEDULE, 10, prediction="v", clip=1.0)
    assert free.max() > 1.1 and np.abs(clipped).max() <= 1


def test_clipped_noise_goes_with_the_clipped_image():
    """What a step says of image and noise gives x_t back; only with the noise clipped too."""
    x, level, previous = jnp.array([2.0, -0.5]), jnp.float32(0.5), jnp.float32(0.7)
    said = jnp.array([-3.0, 0.1])  # a noise that means an image far above 1
    x0 = np.clip((x - 0.5**0.5 * said) / 0.5**0.5, -1, 1)
    for clip_noise in (True, False):
        y = diffusion.ddim_step(x, said, level, previous, clip=1.0, clip_noise=clip_noise)
        noise = (y - 0.7**0.5 * x0) / 0.3**0.5
        gives_back = np.isclose(0.5**0.5 * (x0 + noise), x, atol=1e-5)
        assert gives_back.tolist() == [clip_noise, True]


def test_shifted_times_spend_their_steps_near_the_noise():
    np.testing.assert_allclose(flow_times(4), [0, 0.25, 0.5, 0.75, 1])
    # sigma = 3 s / (1 + 2 s) for s = 1 - t
    np.testing.assert_allclose(flow_times(2, shift=3.0), [0, 1 - 1.5 / 2, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "times"),
    [
        ((10,), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ((1000, 5, "trailing"), [999, 799, 599, 399, 199]),
        ((1000, 5, "leading"), [800, 600, 400, 200, 0]),
        ((1000, 5, "leading", 1), [801, 601, 401, 201, 1]),
        ((1000, 5, "linspace"), [999, 749, 500, 250, 0]),
    ],
)
def test_spaced_times(arguments, times):
    np.testing.assert_array_equal(spaced_times(*arguments), times)


def test_a_sampler_is_one_scan_compiled_once(key):
    """The network is traced once, for however many steps; other noise and other weights compile nothing new."""
    traces = []

    def network(weight, x, t):
        traces.append(t)
        return weight * x

    samplers = {
        "ddim": lambda w, x: ddim(lambda x, t: network(w, x, t), x, SCHEDULE, 50, trajectory=True),
        "ddpm": lambda w, x: ddpm(lambda x, t: network(w, x, t), x, SCHEDULE, key, 50),
        "euler": lambda w, x: euler(lambda x, t: network(w, x, t), x, flow_times(50)),
    }
    for name, sampler in samplers.items():
        compiled = jax.jit(sampler)
        for i in range(3):
            compiled(0.1 * i, jax.random.normal(jax.random.key(i), (4, 2)))
        assert len(traces) == 1 and compiled._cache_size() == 1, name
        scans = [eqn for eqn in jax.make_jaxpr(sampler)(0.1, jnp.ones((4, 2))).eqns if eqn.primitive.name == "scan"]
        assert [scan.params["length"] for scan in scans] == [50], name
        traces.clear()


def test_a_trajectory_ends_in_the_sample(key):
    noise = jax.random.normal(key, (3, 2))
    for sample in (
        lambda **o: ddim(best("v"), noise, SCHEDULE, 8, prediction="v", **o),
        lambda **o: ddpm(best("v"), noise, SCHEDULE, key, 8, prediction="v", **o),
        lambda **o: euler(best_velocity, noise, flow_times(8), **o),
        lambda **o: heun(best_velocity, noise, flow_times(8), **o),
    ):
        x, states = sample(trajectory=True)
        assert states.shape == (8, 3, 2)
        np.testing.assert_array_equal(states[-1], x)
        np.testing.assert_array_equal(sample(), x)


def test_half_precision_stays_half(key):
    noise = jax.random.normal(key, (3,)).astype(jnp.bfloat16)
    half = (
        ddim(best("v"), noise, SCHEDULE, 5, prediction="v"),
        ddpm(best("v"), noise, SCHEDULE, key, 5, prediction="v"),
        heun(best_velocity, noise, flow_times(5)),
    )
    assert [x.dtype for x in half] == [jnp.bfloat16] * 3


def says_nothing(x, t):
    return x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, key: ddim(says_nothing, x, SCHEDULE, 201), "steps=201: a schedule of 200 steps"),
        (lambda x, key: ddpm(says_nothing, x, SCHEDULE, key, 0), "steps=0"),
        (lambda x, key: ddpm(says_nothing, x, SCHEDULE, None), "give a key, or use ddim"),
        (lambda x, key: ddpm(says_nothing, x, SCHEDULE, key, variance="learned"), "'small' or 'large', got 'learned'"),
        (lambda x, key: ddim(says_nothing, x, SCHEDULE, prediction="score"), "noise, x0, v, got 'score'"),
        (lambda x, key: ddim(says_nothing, x, SCHEDULE, spacing="even"), "or 'linspace', got 'even'"),
        (lambda x, key: ddim(says_nothing, x, SCHEDULE, offset=1), "offset=1 moves the times out of 0 .. 199"),
        (lambda x, key: ddim(says_nothing, x, SCHEDULE, eta=0.5), "eta=0.5 draws noise at each step: give a key"),
        (lambda x, key: ddim(says_nothing, x, SCHEDULE, eta=1.5, key=key), "eta=1.5: from 0"),
        (lambda x, key: ddim(says_nothing, x, SCHEDULE, final=0.1), "final=0.1"),
        (lambda x, key: euler(says_nothing, x, 50), "times are at least two numbers"),
        (lambda x, key: flow_times(0), "steps=0"),
    ],
)
def test_bad_input(call, message, key):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones(3), key)
