"""An LSTM that reads a window of a series and forecasts all steps ahead at once."""

from jann.core import Model
from jann.depth import tap
from jann.drawing import fold
from jann.layers import dropout, instance_norm, linear, linear_spec, lstm, lstm_spec


class LSTMForecaster(Model):
    """Forecasts `horizon` steps of all channels from a window of them, of any length.

    A window is normalised by its own mean and deviation, read by LSTM layers, and the last hidden state gives the whole
    forecast by one linear map: the direct strategy, which (unlike feeding forecasts back) does not pile up errors
    (Hochreiter and Schmidhuber 1997; Taieb, Bontempi, Atiya and Sorjamaa 2012 on the strategies).

    layers:   LSTM layers, one on the other
    dropout:  rate after each of them
    """

    channels: int
    horizon: int
    hidden: int = 128
    layers: int = 1
    dropout: float = 0.0

    def spec(self):
        if self.layers < 1:
            raise ValueError(f"LSTMForecaster.layers={self.layers}: it has at least one")
        sizes = (self.channels, *[self.hidden] * (self.layers - 1))
        return {
            "layers": [lstm_spec(size, self.hidden) for size in sizes],
            "head": linear_spec(self.hidden, {"horizon": self.horizon, "channels": self.channels}),
        }

    def apply(self, params, x, state=None, key=None):
        """x[..., time, channels] -> [..., horizon, channels]"""
        x, mean, deviation = instance_norm(x)
        for i, p in enumerate(params["layers"]):
            x, _ = lstm(p, x)
            x = tap(f"layer_{i}", dropout(x, self.dropout, fold(key, f"dropout_{i}")))
        return linear(params["head"], x[..., -1, :]) * deviation + mean, state
