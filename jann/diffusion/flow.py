"""Flow matching: straight paths from noise to data, and the velocity that follows them on average.

x_t = (1 - t) noise + t data, for t from 0 to 1. Lipman et al. 2023, arXiv:2210.02747; Liu, Gong and Liu 2023,
arXiv:2209.03003 (rectified flow).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jann.diffusion.losses import squared_error
from jann.diffusion.predictions import over_features
from jann.drawing import fold
from jann.layers.dtypes import floats

Velocity = Callable[[jax.Array, jax.Array], jax.Array]


def flow_loss(velocity: Velocity, data: jax.Array, key: jax.Array) -> jax.Array:
    """data[batch, ...] -> mean squared error of the velocity for each example [batch], at a time drawn for each

    velocity:  (x_t[batch, ...], t[batch] in 0 .. 1) -> what should be data - noise
    """
    data = floats(data, "flow_loss")
    t = jax.random.uniform(fold(key, "time"), data.shape[:1])
    noise = jax.random.normal(fold(key, "noise"), data.shape, data.dtype)
    x = noise + over_features(t, data) * (data - noise)
    return squared_error(velocity(x, t), data - noise)


def euler(
    velocity: Velocity, noise: jax.Array, times: np.ndarray | jax.Array, trajectory: bool = False
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """noise[...] -> data[...], following the velocity through `times` (such as `flow_times(50)`) in straight steps

    velocity:    (x, t) -> the change of x by unit of time; t is one number
    trajectory:  also return x after each step, [steps, ...]
    """

    def step(x, t, until):
        return x + (until - t) * velocity(x, t)

    return _follow(step, noise, times, trajectory)


def heun(
    velocity: Velocity, noise: jax.Array, times: np.ndarray | jax.Array, trajectory: bool = False
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """As `euler`, with the mean of the velocities at both ends of a step: twice the work, an error of second order."""

    def step(x, t, until):
        first = velocity(x, t)
        return x + (until - t) / 2 * (first + velocity(x + (until - t) * first, until))

    return _follow(step, noise, times, trajectory)


def flow_times(steps: int, shift: float = 1.0) -> np.ndarray:
    """Times [steps + 1] from 0 to 1; a shift above 1 spends more of them near the noise, as large images need.

    Esser et al. 2024, arXiv:2403.03206 (their time is 1 - t).
    """
    if steps < 1 or shift <= 0:
        raise ValueError(f"steps={steps}, shift={shift}: at least one step, and a positive shift")
    left = np.linspace(1, 0, steps + 1)
    return (1 - shift * left / (1 + (shift - 1) * left)).astype(np.float32)


def _follow(step, x, times, trajectory):
    x, times = floats(x, "sampling"), jnp.asarray(times, jnp.float32)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times are at least two numbers, such as flow_times(50), got shape {list(times.shape)}")

    def body(x, span):
        x = step(x, *span).astype(x.dtype)
        return x, x if trajectory else None

    x, states = jax.lax.scan(body, x, (times[:-1], times[1:]))
    return (x, states) if trajectory else x
