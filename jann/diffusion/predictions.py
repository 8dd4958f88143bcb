"""What a network may predict of x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise, and what follows from it."""

import jax
import jax.numpy as jnp

from jann.layers.dtypes import wide_dtype

PREDICTIONS = ("noise", "x0", "v")


def noised(x0: jax.Array, noise: jax.Array, alpha_bar: jax.Array) -> jax.Array:
    """x0[*batch, ...], noise alike, alpha_bar[*batch] -> a sample of q(x_t | x_0): x_t[*batch, ...]"""
    signal, sigma = _levels(alpha_bar, x0)
    return signal * x0 + sigma * noise


def target(x0: jax.Array, noise: jax.Array, alpha_bar: jax.Array, prediction: str = "noise") -> jax.Array:
    """What the network should say at x_t: the noise, x_0, or v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0.

    v is of one size at all noise levels: Salimans and Ho 2022, arXiv:2202.00512.
    """
    check_prediction(prediction)
    if prediction == "v":
        signal, sigma = _levels(alpha_bar, x0)
        return signal * noise - sigma * x0
    return noise if prediction == "noise" else x0


def denoised(
    x: jax.Array, predicted: jax.Array, alpha_bar: jax.Array, prediction: str = "noise"
) -> tuple[jax.Array, jax.Array]:
    """x_t[*batch, ...] and what the network said of it -> (x_0, noise), which give x_t back"""
    check_prediction(prediction)
    signal, sigma = _levels(alpha_bar, x)
    if prediction == "noise":
        return (x - sigma * predicted) / signal, predicted
    if prediction == "x0":
        return predicted, (x - signal * predicted) / sigma
    return signal * x - sigma * predicted, signal * predicted + sigma * x


def check_prediction(prediction: str) -> None:
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")


def over_features(values: jax.Array, x: jax.Array) -> jax.Array:
    """values[*batch] -> [*batch, 1, ..., 1] in x's rank and dtype"""
    values = jnp.asarray(values)
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim)).astype(x.dtype)


def _levels(alpha_bar, x):
    alpha_bar = jnp.asarray(alpha_bar)
    alpha_bar = alpha_bar.astype(wide_dtype(alpha_bar))
    return over_features(jnp.sqrt(alpha_bar), x), over_features(jnp.sqrt(1 - alpha_bar), x)
