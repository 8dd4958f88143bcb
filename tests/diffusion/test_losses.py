"""Predictions and their conversions, the training losses, labels and guidance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann import diffusion
from jann.analysis import check_gradients
from jann.diffusion import PREDICTIONS, denoised, diffusion_loss, drop_labels, flow_loss, guided, noised, target

SCHEDULE = diffusion.cosine_schedule(100)


def test_noised_by_hand():
    """sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise, a level for each example."""
    levels = diffusion.Schedule((0.81, 0.36)).at(jnp.array([0, 1]))
    x = noised(jnp.array([[1.0, 2.0], [1.0, 2.0]]), jnp.array([[0.0, 1.0], [0.0, 1.0]]), levels)
    np.testing.assert_allclose(x, [[0.9, 1.8 + 0.19**0.5], [0.6, 1.2 + 0.8]], rtol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_is_predicted_gives_image_and_noise_back(prediction, key):
    x0, noise = jax.random.normal(key, (2, 4, 3, 3, 1))
    levels = SCHEDULE.at(jnp.array([0, 10, 60, 90]))
    said = target(x0, noise, levels, prediction)
    got_x0, got_noise = denoised(noised(x0, noise, levels), said, levels, prediction)
    np.testing.assert_allclose(got_x0, x0, atol=1e-4)
    np.testing.assert_allclose(got_noise, noise, atol=1e-4)


def test_v_is_the_velocity_along_the_angle(key):
    """With sqrt(alpha_bar) = cos(angle), v is the derivative of x_t by the angle (Salimans and Ho 2022)."""
    x0, noise = jax.random.normal(key, (2, 5))
    angle = 0.7
    _, velocity = jax.jvp(lambda a: noised(x0, noise, jnp.cos(a) ** 2), (angle,), (1.0,))
    np.testing.assert_allclose(target(x0, noise, jnp.cos(angle) ** 2, "v"), velocity, rtol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("min_snr", [None, 5.0])
def test_the_loss_of_a_network_that_says_nothing(prediction, min_snr, key):
    """Saying zero costs the target's mean square: 1 for unit data and noise; times the mean of the weights."""
    x0 = jnp.where(jax.random.bernoulli(key, 0.5, (4000, 8)), 1.0, -1.0)
    losses = jax.jit(lambda: diffusion_loss(lambda x, t: 0 * x, x0, key, SCHEDULE, prediction, min_snr))()
    alpha_bar = np.array(SCHEDULE.alpha_bar)
    snr = alpha_bar / (1 - alpha_bar)
    weights = {"noise": np.minimum(snr, 5) / snr, "x0": np.minimum(snr, 5), "v": np.minimum(snr, 5) / (snr + 1)}
    wanted = 1.0 if min_snr is None else weights[prediction].mean()
    assert losses.shape == (4000,)
    np.testing.assert_allclose(losses.mean(), wanted, rtol=0.06)


def test_min_snr_weighs_the_same_error_alike_whatever_is_predicted(key):
    """A guess of x_0, put as each prediction, costs min(snr, 5) times its squared error in x_0."""
    x0 = jax.random.normal(key, (64, 3))

    def said(prediction):
        def predict(x, t):
            levels = SCHEDULE.at(t)
            noise = denoised(x, jnp.full_like(x, 0.3), levels, "x0")[1]  # what x_0 = 0.3 would mean
            return target(jnp.full_like(x, 0.3), noise, levels, prediction)

        return predict

    losses = [diffusion_loss(said(p), x0, key, SCHEDULE, p, 5.0) for p in PREDICTIONS]
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(losses[2], losses[1], rtol=2e-3, atol=1e-5)


def test_the_loss_is_that_of_the_network(key):
    """The right answer costs nothing: the loss hands over x_t and the time that belongs to it."""
    x0 = jnp.full((64, 3), 0.5)  # one image is all there is, so the noise can be told

    def knows(x, t):
        return denoised(x, jnp.full_like(x, 0.5), SCHEDULE.at(t), "x0")[1]

    assert diffusion_loss(knows, x0, key, SCHEDULE, "noise").max() < 1e-6
    assert diffusion_loss(lambda x, t: knows(x, t) + 0.1, x0, key, SCHEDULE, "noise").min() > 0.009

    def flows(x, t):
        return (0.5 - x) / (1 - t[:, None])  # x_t = (1 - t) noise + t data

    assert flow_loss(flows, x0, key).max() < 1e-4
    assert np.isclose(flow_loss(lambda x, t: flows(x, t) + 0.1, x0, key).mean(), 0.01, rtol=1e-2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, key: diffusion_loss(lambda x, t: x, x, key, SCHEDULE, "epsilon"), "noise, x0, v, got 'epsilon'"),
        (lambda x, key: diffusion_loss(lambda x, t: x[:, 0], x, key, SCHEDULE), r"\[4, 3\] like its input, got \[4\]"),
        (lambda x, key: flow_loss(lambda x, t: t, x, key), r"\[4, 3\] like its input, got \[4\]"),
        (lambda x, key: denoised(x, x, 0.5, "image"), "got 'image'"),
    ],
)
def test_bad_input(call, message, key):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((4, 3)), key)


def test_images_are_floats(key):
    pixels = jnp.ones((4, 3), jnp.uint8)
    for name, call in {
        "diffusion_loss": lambda: diffusion_loss(lambda x, t: x, pixels, key, SCHEDULE),
        "flow_loss": lambda: flow_loss(lambda x, t: x, pixels, key),
        "sampling": lambda: diffusion.euler(lambda x, t: x, pixels, diffusion.flow_times(3)),
    }.items():
        with pytest.raises(TypeError, match=f"{name} takes floating-point inputs, got uint8: scale them first"):
            call()


def test_labels_are_dropped_at_the_rate(key):
    labels = jnp.arange(10_000) % 10
    dropped = drop_labels(labels, 10, 0.1, key)
    assert abs(np.mean(dropped == 10) - 0.1) < 0.015
    kept = dropped != 10
    np.testing.assert_array_equal(dropped[kept], labels[kept])
    np.testing.assert_array_equal(drop_labels(labels, 10, 0.1, None), labels)


def test_guidance():
    def predict(x, t, labels):
        return x * labels[:, None] + t

    x, labels = jnp.array([[1.0], [2.0]]), jnp.array([3, 5])
    np.testing.assert_array_equal(guided(predict, labels, 9, 1.0)(x, 0), predict(x, 0, labels))
    traced = jax.jit(lambda w: guided(predict, labels, 9, w)(x, 0))
    np.testing.assert_allclose(traced(1.0), predict(x, 0, labels))
    np.testing.assert_allclose(traced(0.0), predict(x, 0, jnp.array([9, 9])))
    np.testing.assert_allclose(traced(3.0), [[9 + 3 * (3 - 9.0)], [18 + 3 * (10 - 18.0)]])
    wide = guided(predict, labels, 9, jnp.array([0.0, 1.0]))(jnp.ones((2, 2)), 0)  # of each example, not feature
    np.testing.assert_allclose(wide, [[9, 9], [5, 5]])


def test_double_precision_stays():
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (2, 3))
        for loss in (flow_loss, lambda predict, x, key: diffusion_loss(predict, x, key, diffusion.cosine_schedule(10))):
            check_gradients(lambda p: loss(lambda x, t: jnp.tanh(x @ p), x, jax.random.key(1)).mean(), jnp.eye(3))  # noqa: B023
