"""How much noise there is at each step of diffusion."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, repr=False)
class Schedule:
    """alpha_bar[steps]: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, for t = 0 .. steps - 1.

    Each step adds noise, so alpha_bar falls within (0, 1). A value: hashable, and so a static argument of `jax.jit`.

    Raises ValueError where it does not fall, naming the step.
    """

    alpha_bar: tuple[float, ...]

    def __post_init__(self):
        values = np.asarray(self.alpha_bar, np.float64)
        if values.ndim != 1 or not len(values):
            raise ValueError(f"Schedule.alpha_bar is one number a step, got shape {list(values.shape)}")
        outside = np.flatnonzero(~((values > 0) & (values < 1)))
        if len(outside):
            raise ValueError(f"Schedule.alpha_bar lies between 0 and 1, but step {outside[0]} has {values[outside[0]]}")
        rising = np.flatnonzero(np.diff(values) >= 0)
        if len(rising):
            before, after = values[rising[0]], values[rising[0] + 1]
            raise ValueError(
                f"Schedule.alpha_bar must fall from step to step, for each adds noise, but step {rising[0] + 1} has "
                f"{after:g} after {before:g}: is the order reversed?"
            )
        object.__setattr__(self, "alpha_bar", tuple(values.tolist()))

    @classmethod
    def from_betas(cls, betas: np.ndarray) -> "Schedule":
        """The schedule of x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise; each beta lies between 0 and 1."""
        betas = np.asarray(betas, np.float64)
        outside = np.flatnonzero(~((betas > 0) & (betas < 1)))
        if len(outside):
            raise ValueError(f"each beta lies between 0 and 1, but step {outside[0]} has {betas.ravel()[outside[0]]}")
        return cls(tuple(np.cumprod(1 - betas)))

    @property
    def steps(self) -> int:
        return len(self.alpha_bar)

    def at(self, t: jax.Array) -> jax.Array:
        """t[...] integers -> alpha_bar[...] in JAX's default float (float32); NaN outside the schedule."""
        t = jnp.asarray(t)
        if not jnp.issubdtype(t.dtype, jnp.integer):
            raise TypeError(f"a schedule's times are integers from 0 to {self.steps - 1}, got {t.dtype}")
        values = jnp.asarray(self.alpha_bar, float)
        return jnp.where((t < 0) | (t >= self.steps), jnp.nan, values[t])

    def __repr__(self):
        return f"Schedule({self.steps} steps, alpha_bar {self.alpha_bar[0]:.4g} to {self.alpha_bar[-1]:.4g})"


def linear_schedule(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """Betas from `first` to `last`: Ho, Jain and Abbeel 2020, arXiv:2006.11239 (for 1000 steps)."""
    return Schedule.from_betas(np.linspace(first, last, _at_least_one(steps)))


def scaled_linear_schedule(steps: int = 1000, first: float = 0.00085, last: float = 0.012) -> Schedule:
    """Betas whose square roots are linear: Rombach et al. 2022, arXiv:2112.10752 (latent diffusion)."""
    return Schedule.from_betas(np.linspace(first**0.5, last**0.5, _at_least_one(steps)) ** 2)


def cosine_schedule(steps: int = 1000, offset: float = 0.008, largest_beta: float = 0.999) -> Schedule:
    """alpha_bar_t ~ cos²(π/2 (t + offset) / (1 + offset)): Nichol and Dhariwal 2021, arXiv:2102.09672."""
    t = np.linspace(0, 1, _at_least_one(steps) + 1)
    alpha_bar = np.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return Schedule.from_betas(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], largest_beta))


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"steps={steps}: a schedule has at least one step")
    return steps
