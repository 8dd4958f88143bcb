"""The stock experiment: what it says of a series with a pattern and of one without, costs by hand, and no leak."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import jann
from experiments import stocks
from experiments.stocks import day_by_day, features, forecast, judged, model_of, run, stretches
from jann.data import Series

FAST = dataclasses.replace(stocks.RECIPE, epochs=6, learning_rate=1e-2, weight_decay=0.0, patience=6)


def prices(memory, days=1500):
    """A share whose returns are `memory` times the day before's plus noise: a random walk for 0."""
    random = np.random.default_rng(5)
    noise, returns = 0.01 * random.standard_normal(days), np.zeros(days)
    for day in range(1, days):
        returns[day] = memory * returns[day - 1] + noise[day]
    close = 100 * np.exp(np.cumsum(returns))
    spread = np.exp(0.003 * np.abs(random.standard_normal(days)))
    columns = {"Open": close, "High": close * spread, "Low": close / spread, "Close": close, "Volume": 1e6 * spread}
    times = np.datetime64("2001-01-01") + np.arange(days).astype("timedelta64[D]")
    values = np.stack(list(columns.values()), -1)
    return Series("made up", times, values, tuple(columns), (int(0.7 * days), int(0.8 * days), days))


def found(out, memory, **changes):
    given = {"lookback": 5, "recipe": FAST, "cost": 0.0005, "short": False, "seeds": 1, "seed": 0, **changes}
    return run(out, prices(memory), model_of("linear", 5, 4), **given)


def test_it_finds_a_pattern_where_there_is_one(tmp_path, capsys):
    row = found(tmp_path, 0.5)
    # the best forecast's error is sqrt(1 - 0.5²) of the naive one's, and sign agreement 1/2 + asin(0.5)/π = 2/3
    assert 0.83 < row["error_ratio"] < 0.92 and row["intervals"]["error_ratio"][1] < 1
    assert abs(row["direction"] - 2 / 3) < 0.06 and row["diebold_mariano_p"] < 0.01
    assert row["intervals"]["net_less_hold"][0] > 0 and row["gross"] > row["net"]
    assert "the forecast beats the naive one" in capsys.readouterr().out


def test_it_finds_none_in_a_random_walk_and_says_so(tmp_path, capsys, monkeypatch):
    row = found(tmp_path / "whole", 0.0, seeds=2)
    low, high = row["intervals"]["error_ratio"]
    assert low < 1.005 and high > 1 and abs(row["direction"] - 0.5) < 0.1
    assert "the forecast beats" not in capsys.readouterr().out
    monkeypatch.setattr(jann, "fit", lambda *a, fit=jann.fit, **options: fit(*a[:3], a[3] // 2, **options))
    with pytest.raises(SystemExit, match="130"):
        found(tmp_path / "broken", 0.0, seeds=2)
    assert not (tmp_path / "broken" / "results.json").exists()
    monkeypatch.undo()
    assert found(tmp_path / "broken", 0.0, seeds=2) == row
    (stored,) = json.loads((tmp_path / "broken" / "results.json").read_text())["rows"]
    assert stored["intervals"] == row["intervals"] and len(stored["test_error_ratio"]["seeds"]) == 2


def test_no_forecast_knows_its_own_day_or_later_ones():
    """Prices from a day on are changed: forecasts up to and of that day stay, later ones move."""
    before, model = prices(0.3, 300), model_of("lstm", 5, 4)
    params = model.init(jax.random.key(0))
    day = before.ends[1] + 20  # the forecast of this day is the 20th of the test part
    values = before.values.copy()
    values[day:] *= np.linspace(1.1, 2, len(values) - day)[:, None]
    after = Series("moved", before.times, values, before.columns, before.ends)
    (a, _), (b, returns) = (forecast(model, params, features(each), 5) for each in (before, after))
    np.testing.assert_array_equal(a[:21], b[:21])
    assert (a[21:26] != b[21:26]).all()
    closes = np.log(after.values[after.ends[1] - 1 : after.ends[2], 3])
    np.testing.assert_allclose(returns, np.diff(closes), atol=1e-6)


def test_a_day_without_a_move_is_one():
    """Standardised in single precision and back, its return would be about 1e-11."""
    share, model = prices(0.3, 300), model_of("linear", 5, 4)
    day = share.ends[1] + 7
    values = share.values.copy()
    values[day, 3] = values[day - 1, 3]
    flat = features(Series("flat", share.times, values, share.columns, share.ends))
    said, returns = forecast(model, model.init(jax.random.key(0)), flat, 5)
    np.testing.assert_array_equal(returns, flat.values[flat.ends[1] :, 0])
    assert np.flatnonzero(~day_by_day(said, returns, 0.0, short=False)["moved"]).tolist() == [7]


def test_gains_and_costs_by_hand():
    forecasts, returns = np.array([1.0, -1, 1, 1]), np.log([1.1, 0.8, 1.0, 1.2])
    flat = judged(day_by_day(forecasts, returns, 0.01, short=False))
    # bought, sold, bought: three changes; holds on days 1, 3 and 4
    assert flat["gross"] * 4 / 252 == pytest.approx(np.log(1.1 * 1.2))
    assert flat["net"] * 4 / 252 == pytest.approx(np.log(1.1 * 1.2 * 0.99**3))
    assert flat["hold"] * 4 / 252 == pytest.approx(np.log(1.1 * 0.8 * 1.2 * 0.99))
    assert flat["turnover"] * 4 / 252 == pytest.approx(3)
    # the day without a move counts for neither
    assert flat["direction"] == 1 and flat["up_days"] == pytest.approx(2 / 3)
    both = judged(day_by_day(forecasts, returns, 0.01, short=True))
    assert both["gross"] * 4 / 252 == pytest.approx(np.log(1.1 * 1.2 * 1.2))  # short on a day of -20 %
    assert both["turnover"] * 4 / 252 == pytest.approx(5)
    naive = judged(day_by_day(np.zeros(4), returns, 0.01, short=False))
    assert naive["error_ratio"] == 1 and naive["net"] == 0


def test_stretches_are_consecutive_days_of_the_length_asked():
    rows = stretches(500, resamples=200, block=10)
    assert rows.shape == (200, 500) and rows.min() == 0 and rows.max() == 499
    goes_on = (np.diff(rows, axis=1) % 500) == 1
    assert goes_on.mean() == pytest.approx(1 - 1 / 10, abs=0.01)
    np.testing.assert_allclose(np.bincount(rows.ravel(), minlength=500).mean(), 200)


def test_features_are_ratios_of_the_days(tmp_path):
    series = prices(0.0, 10)
    got = features(series)
    close, volume = series.values[:, 3], series.values[:, 4]
    assert got.ends == (6, 7, 9) and got.times[0] == series.times[1]
    np.testing.assert_allclose(got.values[:, 0], np.log(close[1:] / close[:-1]))
    np.testing.assert_allclose(got.values[:, 1], np.log(series.values[1:, 1] / series.values[1:, 2]))
    np.testing.assert_allclose(got.values[:, 3], np.log(volume[1:] / volume[:-1]))


@pytest.mark.parametrize("cost", [2.0, -1.0, float("nan")])
def test_costs_that_are_no_share_are_refused(cost, tmp_path):
    with pytest.raises(SystemExit, match=f"--cost {cost:g}: a share of what is traded, from 0 to less than 0.5"):
        stocks.main(cost=cost, out=tmp_path / "run")
