"""Intervals over repeated runs."""

import numpy as np


def interval(values: np.ndarray, axis: int = 0, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and Student's t interval of the mean over `axis`: values[..., runs, ...] -> (mean, low, high), each [...].

    With one run there is no interval: low and high are NaN. A NaN among the values makes all three NaN, so that a
    diverged run shows instead of being averaged away.

    Raises ValueError for a level that is not between 0 and 1, or if there is no run.
    """
    from scipy.special import stdtrit  # imported here: SciPy takes longer to import than jann

    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1 (such as 0.95), got {level}")
    values = np.asarray(values, np.float64)
    if not values.ndim or not values.shape[axis]:
        raise ValueError(f"values must hold at least one run on axis {axis}, got shape {list(values.shape)}")
    runs = values.shape[axis]
    mean = values.mean(axis)
    if runs < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stdtrit(runs - 1, (1 + level) / 2) * values.std(axis, ddof=1) / np.sqrt(runs)
    return mean, mean - half, mean + half
