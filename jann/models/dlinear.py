"""DLinear: a series split into trend and rest, each forecast by one linear map."""

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import Model, stack
from jann.depth import tap
from jann.layers import linear, linear_spec


class DLinear(Model):
    """Forecasts `horizon` steps from `lookback` steps, each channel for itself.

    The trend is a moving average, its ends repeated; the seasonal part is what remains. Each goes through a linear map
    over time, and the two forecasts are added.

    Zeng, Chen, Zhang and Xu 2023, "Are transformers effective for time series forecasting?", AAAI, arXiv:2205.13504.

    window:    steps of the moving average, odd
    channels:  a map for each of so many channels; by default all channels share one
    """

    lookback: int
    horizon: int
    window: int = 25
    channels: int | None = None

    def __post_init__(self):
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"DLinear.window must be odd, so that the average has a middle, got {self.window}")

    def spec(self):
        maps = {name: linear_spec(self.lookback, self.horizon) for name in ("seasonal", "trend")}
        return maps if self.channels is None else stack(maps, channels=self.channels)

    def apply(self, params, x, state=None, key=None):
        """x[..., lookback, channels] -> [..., horizon, channels]"""
        x = jnp.swapaxes(x, -1, -2)
        trend = tap("trend", x @ jnp.asarray(moving_average(x.shape[-1], self.window), x.dtype))
        parts = {"seasonal": tap("seasonal", x - trend), "trend": trend}

        def forecast(p, parts):
            return linear(p["seasonal"], parts["seasonal"]) + linear(p["trend"], parts["trend"])

        if self.channels is not None:
            forecast = jax.vmap(forecast, in_axes=(0, -2), out_axes=-2)
        return jnp.swapaxes(forecast(params, parts), -1, -2), state


def moving_average(steps: int, window: int) -> np.ndarray:
    """The matrix [steps, steps] that x is multiplied with for the mean of `window` steps around each.

    Beyond the ends the first and the last value are repeated. As a product of matrices it is faster than a pooling.
    """
    middle = np.arange(steps)
    around = np.clip(middle[:, None] + np.arange(window) - window // 2, 0, steps - 1)
    matrix = np.zeros((steps, steps))
    np.add.at(matrix, (around, middle[:, None]), 1 / window)
    return matrix
