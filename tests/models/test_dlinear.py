"""DLinear: its decomposition and its forecast, worked by hand."""

import jax
import numpy as np
import pytest

from jann.models import DLinear
from jann.models.dlinear import moving_average


def test_moving_average_repeats_the_ends():
    x = np.array([1.0, 2, 6, 3, 8])
    np.testing.assert_allclose(x @ moving_average(5, 3), [(1 + 1 + 2) / 3, 3, 11 / 3, 17 / 3, (3 + 8 + 8) / 3])
    padded = np.pad(x, 3, mode="edge")
    np.testing.assert_allclose(x @ moving_average(5, 7), [padded[i : i + 7].mean() for i in range(5)])


@pytest.mark.parametrize("channels", [None, 2])
def test_the_forecast_is_that_of_the_paper(drawn, channels):
    model = DLinear(lookback=5, horizon=3, window=3, channels=channels)
    params = drawn(model)
    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    want = np.empty((4, 3, 2))
    for example in range(4):
        for channel in range(2):
            series = x[example, :, channel]
            trend = np.convolve(np.pad(series, 1, mode="edge"), np.ones(3) / 3, "valid")
            own = jax.tree.map(lambda leaf: leaf if channels is None else leaf[channel], params)  # noqa: B023
            want[example, :, channel] = sum(
                part @ own[name]["weight"] + own[name]["bias"]
                for name, part in (("trend", trend), ("seasonal", series - trend))
            )
    np.testing.assert_allclose(model(params, x), want, rtol=1e-4, atol=1e-5)


def test_the_window_has_a_middle():
    with pytest.raises(ValueError, match="DLinear.window must be odd, .*, got 4"):
        DLinear(8, 2, window=4)
