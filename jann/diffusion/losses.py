"""The training loss of diffusion."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jann.diffusion.predictions import check_prediction, noised, target
from jann.diffusion.schedules import Schedule
from jann.drawing import fold
from jann.layers.dtypes import floats, wide_dtype


def diffusion_loss(
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    x0: jax.Array,
    key: jax.Array,
    schedule: Schedule,
    prediction: str = "noise",
    min_snr: float | None = None,
) -> jax.Array:
    """x0[batch, ...] -> mean squared error of each example [batch], at a step drawn for each

    predict:     (x_t[batch, ...], t[batch] integers) -> what `prediction` says: "noise", "x0" or "v"
    min_snr:     weighs the error of x_0 by min(signal / noise, min_snr), 5 in the paper, whatever is predicted: Hang et
                 al. 2023, arXiv:2303.09556. By default all errors weigh the same: Ho et al. 2020, arXiv:2006.11239.
    """
    check_prediction(prediction)
    x0 = floats(x0, "diffusion_loss")
    t = jax.random.randint(fold(key, "time"), x0.shape[:1], 0, schedule.steps)
    noise = jax.random.normal(fold(key, "noise"), x0.shape, x0.dtype)
    alpha_bar = schedule.at(t)
    predicted = predict(noised(x0, noise, alpha_bar), t)
    losses = squared_error(predicted, target(x0, noise, alpha_bar, prediction))
    if min_snr is None:
        return losses
    snr = alpha_bar / (1 - alpha_bar)
    return losses * jnp.minimum(snr, min_snr) / {"noise": snr, "x0": 1.0, "v": snr + 1}[prediction]


def squared_error(predicted: jax.Array, wanted: jax.Array) -> jax.Array:
    """predicted[batch, ...], wanted alike -> mean squared error of each example [batch], in float32 at least"""
    if predicted.shape != wanted.shape:
        raise ValueError(f"predict must return {list(wanted.shape)} like its input, got {list(predicted.shape)}")
    error = predicted.astype(wide_dtype(predicted)) - wanted.astype(wide_dtype(wanted))
    return jax.lax.collapse(jnp.square(error), 1).mean(-1)
