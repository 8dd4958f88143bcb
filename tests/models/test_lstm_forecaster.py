"""The LSTM forecaster against PyTorch's formulas in NumPy."""

import jax
import numpy as np

from jann.models import LSTMForecaster


def test_the_forecast_is_the_last_hidden_state_through_the_head_at_the_windows_level(drawn):
    model = LSTMForecaster(channels=2, horizon=3, hidden=4)
    params = jax.tree.map(np.float64, drawn(model))
    x = np.random.default_rng(0).normal(3, 2, (5, 2))
    mean, deviation = x.mean(0), np.sqrt(x.var(0) + 1e-5)
    p = params["layers"][0]
    h = c = np.zeros(4)
    for step in (x - mean) / deviation:
        gates = p["input"]["bias"] + np.tensordot(step, p["input"]["weight"], 1)
        i, f, g, o = gates + np.tensordot(h, p["recurrent"]["weight"], 1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
    want = (np.tensordot(h, params["head"]["weight"], 1) + params["head"]["bias"]) * deviation + mean
    got = model(drawn(model), x.astype(np.float32))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
