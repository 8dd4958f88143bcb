"""From noise to data by a `Schedule`, each sampler one `lax.scan`."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jann.diffusion.predictions import denoised
from jann.diffusion.schedules import Schedule
from jann.layers.dtypes import floats

Predict = Callable[[jax.Array, jax.Array], jax.Array]


def ddpm(
    predict: Predict,
    x: jax.Array,
    schedule: Schedule,
    key: jax.Array,
    steps: int | None = None,
    *,
    prediction: str = "noise",
    variance: str = "small",
    clip: float | None = None,
    spacing: str = "trailing",
    offset: int = 0,
    final: float = 1.0,
    trajectory: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Noise x[...] -> data [...], drawn from the learnt reverse chain (Ho, Jain and Abbeel 2020, arXiv:2006.11239)

    predict:     (x_t, t) -> what `prediction` names; t is one integer
    steps:       how many of the schedule's steps are taken, by default all; see `spaced_times` for which
    variance:    of the noise added: "small" (of the posterior given x_0) or "large" (beta)
    clip:        x_0 is kept within -clip .. clip at each step
    final:       the alpha_bar at which the last step ends, 1 for no noise
    trajectory:  also return x after each step, [steps, ...]

    Raises ValueError for an unknown prediction, variance or spacing, or more steps than the schedule has.
    """
    if key is None:
        raise ValueError("ddpm draws noise at each step: give a key, or use ddim with eta=0")
    step = partial(ddpm_step, prediction=prediction, variance=variance, clip=clip)
    times = spaced_times(schedule.steps, steps, spacing, offset)
    return _sample(step, predict, x, schedule, times, final, key, trajectory)


def ddim(
    predict: Predict,
    x: jax.Array,
    schedule: Schedule,
    steps: int | None = None,
    *,
    eta: float = 0.0,
    key: jax.Array | None = None,
    prediction: str = "noise",
    clip: float | None = None,
    clip_noise: bool = False,
    spacing: str = "trailing",
    offset: int = 0,
    final: float = 1.0,
    trajectory: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Noise x[...] -> data [...] without drawing more noise (Song, Meng and Ermon 2021, arXiv:2010.02502)

    eta:         how much noise is drawn at each step after all, from a key: 1 is `ddpm`
    clip_noise:  where x_0 was clipped, the noise is taken to be what gives x_t with it; needed with strong guidance.
                 (Not so by default in `diffusers`, which calls it use_clipped_model_output.)

    The other arguments are those of `ddpm`.

    Raises ValueError as `ddpm` does, and for eta above 0 without a key.
    """
    if isinstance(eta, (int, float)) and not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}: from 0 (no noise) to 1 (that of ddpm)")
    if key is None and not (isinstance(eta, (int, float)) and eta == 0):
        raise ValueError(f"eta={eta} draws noise at each step: give a key")
    step = partial(ddim_step, eta=eta, prediction=prediction, clip=clip, clip_noise=clip_noise)
    times = spaced_times(schedule.steps, steps, spacing, offset)
    return _sample(step, predict, x, schedule, times, final, key, trajectory)


def _sample(step, predict, x, schedule, times, final, key, trajectory):
    x = floats(x, "sampling")
    alpha_bar = np.append(np.asarray(schedule.alpha_bar)[times], final).astype(np.float32)
    if not alpha_bar[-2] <= final <= 1:
        raise ValueError(f"final={final}: the last step goes up from alpha_bar {alpha_bar[-2]:g}, to 1 at most")

    def body(x, now):
        i, t, alpha_bar, previous = now
        noise = None if key is None else jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        x = step(x, predict(x, t), alpha_bar, previous, noise)
        return x, x if trajectory else None

    x, states = jax.lax.scan(body, x, (np.arange(len(times)), times, alpha_bar[:-1], alpha_bar[1:]))
    return (x, states) if trajectory else x


def ddpm_step(
    x: jax.Array,
    predicted: jax.Array,
    alpha_bar: jax.Array,
    previous: jax.Array,
    noise: jax.Array,
    *,
    prediction: str = "noise",
    variance: str = "small",
    clip: float | None = None,
) -> jax.Array:
    """x_t[...] at the level alpha_bar -> x at the level `previous`, of less noise: q(x_previous | x_t, x_0)"""
    if variance not in ("small", "large"):
        raise ValueError(f"variance must be 'small' or 'large', got {variance!r}")
    x0 = _clipped(denoised(x, predicted, alpha_bar, prediction)[0], clip)
    alpha, left, left_previous = alpha_bar / previous, 1 - alpha_bar, 1 - previous
    mean = jnp.sqrt(previous) * (1 - alpha) / left * x0 + jnp.sqrt(alpha) * left_previous / left * x
    drawn = (1 - alpha) * (left_previous / left if variance == "small" else previous < 1)
    return (mean + jnp.sqrt(drawn) * noise).astype(x.dtype)


def ddim_step(
    x: jax.Array,
    predicted: jax.Array,
    alpha_bar: jax.Array,
    previous: jax.Array,
    noise: jax.Array | None = None,
    *,
    eta: float = 0.0,
    prediction: str = "noise",
    clip: float | None = None,
    clip_noise: bool = False,
) -> jax.Array:
    """x_t[...] at the level alpha_bar -> x at the level `previous`: x_0 with the same noise again, but less of it"""
    x0, direction = denoised(x, predicted, alpha_bar, prediction)
    x0 = _clipped(x0, clip)
    if clip_noise:
        direction = denoised(x, x0, alpha_bar, "x0")[1]
    drawn = eta**2 * (1 - previous) / (1 - alpha_bar) * (1 - alpha_bar / previous)
    y = jnp.sqrt(previous) * x0 + jnp.sqrt(1 - previous - drawn) * direction
    return (y if noise is None else y + jnp.sqrt(drawn) * noise).astype(x.dtype)


def spaced_times(
    schedule_steps: int, steps: int | None = None, spacing: str = "trailing", offset: int = 0
) -> np.ndarray:
    """`steps` of the times 0 .. schedule_steps - 1, falling.

    spacing:  "trailing" starts at the last; "leading" takes every (schedule_steps // steps)th and ends at the first;
              "linspace" has both ends (Lin et al. 2024, arXiv:2305.08891, table 2)
    offset:   is added to each (with "leading"; 1 for Stable Diffusion)
    """
    steps = schedule_steps if steps is None else steps
    if not 1 <= steps <= schedule_steps:
        raise ValueError(f"steps={steps}: a schedule of {schedule_steps} steps is sampled in 1 to {schedule_steps}")
    if spacing == "trailing":
        times = np.round(np.arange(schedule_steps, 0, -schedule_steps / steps)[:steps]) - 1
    elif spacing == "leading":
        times = np.arange(steps)[::-1] * (schedule_steps // steps)
    elif spacing == "linspace":
        times = np.round(np.linspace(0, schedule_steps - 1, steps))[::-1]
    else:
        raise ValueError(f"spacing must be 'trailing', 'leading' or 'linspace', got {spacing!r}")
    times = times.astype(np.int32) + offset
    if times[0] >= schedule_steps or times[-1] < 0:
        raise ValueError(f"offset={offset} moves the times out of 0 .. {schedule_steps - 1}: {times[0]} .. {times[-1]}")
    return times


def _clipped(x0, clip):
    return x0 if clip is None else jnp.clip(x0, -clip, clip)
