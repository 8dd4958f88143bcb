"""Tomorrow's price from the last days': an honest comparison with "as today", net of what trading costs.

    python -m experiments.stocks --model lstm
    python -m experiments.stocks --data sp500

The default prices are Google's from August 2004 to October 2008, real ones that come with matplotlib; S&P 500 and Apple
are downloaded. A model sees the returns, ranges and volumes of the last days and forecasts the next day's
logarithmic return, which is a forecast of the price. The naive forecast is that the price stays. No published result is
to be reached here: prices of liquid shares are close to a random walk, so a model that clearly beats the naive forecast
has a leak. What is found is printed, with 95 % intervals from resampled stretches of test days.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from scipy import stats

import jann
from experiments.forecasters import Recipe, Task, train_one
from experiments.reporting import at_least_one, command, each_seed, over_seeds, save_figures, show_table, write_results
from jann.data import Series, SeriesWindows

YEAR = 252  # trading days
RESAMPLES, BLOCK = 2000, 10  # of the intervals; days of a resampled stretch, on average
RECIPE = Recipe(epochs=40, batch_size=32, learning_rate=1e-3, weight_decay=0.1, patience=5)


def features(series: Series) -> Series:
    """Prices and volumes -> what is known at the end of each day but the first, all logarithms of ratios.

    return: today's closing price to yesterday's; range: highest to lowest; day: close to open; volume: to yesterday's
    """
    column = {name: np.log(np.maximum(series.values[:, i], 1e-9)) for i, name in enumerate(series.columns)}
    values = np.stack([
        np.diff(column["Close"]),
        (column["High"] - column["Low"])[1:],
        (column["Close"] - column["Open"])[1:],
        np.diff(column["Volume"]),
    ], axis=-1)  # fmt: skip
    ends = tuple(end - 1 for end in series.ends)
    return Series(series.name, series.times[1:], values, ("return", "range", "day", "volume"), ends, series.origin)


@dataclasses.dataclass(frozen=True)
class NextReturn:
    """A transform: {"start": [batch]} -> "past"[batch, lookback, features] and "target"[batch, 1], the next return."""

    windows: SeriesWindows

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        batch = self.windows.cut(batch)
        return {"past": batch["past"], "target": batch["target"][..., 0, :1]}


TASK = Task("past", jann.regression, NextReturn)


def model_of(name: str, lookback: int, channels: int) -> jann.Model:
    if name == "linear":
        return jann.models.chain(jann.models.Flatten(2), jann.models.Linear(lookback * channels, 1))
    return jann.models.SequenceClassifier(channels, 1, hidden=32, dropout=0.2, pool="last")


def forecast(model: jann.Model, params: dict, series: Series, lookback: int) -> tuple[np.ndarray, np.ndarray]:
    """(forecast, true) logarithmic returns of each test day, in the prices' own units."""
    windows = series.windows("test", lookback, 1)
    batch = jax.jit(NextReturn(windows))(windows.starts)
    said = np.asarray(jax.jit(model)(params, batch["past"]), np.float64)[:, 0]
    # The true ones as they are: standardised and back they would be rounded, and no day without a move.
    return said * series.deviation[0] + series.mean[0], series.values[windows.starts["start"] + lookback, 0]


def day_by_day(forecasts: np.ndarray, returns: np.ndarray, cost: float, short: bool) -> dict[str, np.ndarray]:
    """forecasts[days], returns[days] of logarithms -> what came of each day, each [days].

    error, naive_error:  squared, of the forecast and of "as today"
    moved, right, up:    whether the price moved, as was forecast, and up
    gross, net, hold:    logarithmic gain of holding the shares when the forecast is up (and selling short else, with
                         `short`), before and after costs; and of buying and holding
    change:              of the position

    cost: share of the traded value that one change of position costs. It is made at the close at which the forecast is
    made. Buying to hold costs the same, once.
    """
    moved = returns != 0
    position = np.where(forecasts > 0, 1.0, -1.0 if short else 0.0)
    change = np.abs(np.diff(position, prepend=0.0))
    gross = np.log1p(position * np.expm1(returns))
    return {
        "error": (returns - forecasts) ** 2,
        "naive_error": returns**2,
        "moved": moved,
        "right": ((forecasts > 0) == (returns > 0)) & moved,
        "up": returns > 0,
        "gross": gross,
        "net": gross + np.log1p(-cost * change),
        "hold": returns + np.log1p(-cost) * (np.arange(len(returns)) == 0),
        "change": change,
    }


def judged(daily: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each [..., days] of `day_by_day` -> root mean squared error over that of the naive forecast, shares of days,

    gains and changes a year, each [...].
    """
    mean = {name: values.mean(-1) for name, values in daily.items()}
    return {
        "error_ratio": np.sqrt(mean["error"] / mean["naive_error"]),
        "direction": mean["right"] / mean["moved"],
        "up_days": mean["up"] / mean["moved"],
        **{name: YEAR * mean[name] for name in ("gross", "net", "hold")},
        "net_less_hold": YEAR * (mean["net"] - mean["hold"]),
        "turnover": YEAR * mean["change"],
    }


def stretches(days: int, resamples: int = RESAMPLES, block: int = BLOCK, seed: int = 0) -> np.ndarray:
    """Rows [resamples, days] of the stationary bootstrap: stretches of days, of random length (Politis, Romano 1994).

    Days next to each other stay so, since volatility comes in clusters.
    """
    random = np.random.default_rng(seed)
    fresh = random.random((resamples, days)) < 1 / block
    fresh[:, 0] = True
    begin = np.maximum.accumulate(np.where(fresh, np.arange(days), 0), axis=1)
    first = np.take_along_axis(random.integers(0, days, (resamples, days)), begin, axis=1)
    return (first + np.arange(days) - begin) % days


def run(
    out: Path, prices: Series, model: jann.Model, lookback: int, recipe: Recipe, cost: float, short: bool, seeds: int,
    seed: int,
) -> dict:  # fmt: skip
    """Trains `seeds` models, judges the mean of their forecasts on the test days, and reports."""
    series = features(prices)
    config = {"data": prices.name, "model": jann.to_json(model), "lookback": lookback, "cost": cost, "short": short,
              "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}  # fmt: skip
    folder = jann.open_run(out, config)
    days = prices.times[prices.ends[1] : prices.ends[2]]
    print(prices, f"test days {days[0]} to {days[-1]}", jann.summary(model), sep="\n\n", end="\n\n")

    def one(at, number):
        _, params = train_one(at, series, model, TASK, recipe, lookback, 1, number)
        return forecast(model, params, series, lookback)

    results = each_seed(folder, seeds, seed, one)
    each, (returns, *_) = zip(*results, strict=True)
    together = np.mean(each, axis=0)
    daily = day_by_day(together, returns, cost, short)
    rows = stretches(len(returns))
    resampled = judged({name: values[rows] for name, values in daily.items()})
    row = {
        "data": prices.name, "model": repr(model), "test_days": len(returns), "cost": cost,
        **{name: float(value) for name, value in judged(daily).items()},
        "intervals": {name: np.quantile(values, (0.025, 0.975)).tolist() for name, values in resampled.items()},
        # of equal squared errors, one step ahead (Diebold and Mariano 1995)
        "diebold_mariano_p": float(stats.ttest_1samp(daily["error"] - daily["naive_error"], 0).pvalue),
        "test_error_ratio": over_seeds([judged(day_by_day(one, returns, cost, short))["error_ratio"] for one in each]),
    }  # fmt: skip
    write_results(folder, [row])
    draw(folder, prices.name, days, daily)
    report(row, short)
    print(f"wrote {folder}")
    return row


def report(row: dict, short: bool) -> None:
    strategy = "long or short by the forecast" if short else "long when the forecast is up"
    lines = {
        "error_ratio": ("error of the model / error of 'as today'", "1"),
        "direction": ("share of days with the right direction", f"{row['up_days']:.3f} (always up)"),
        "gross": (f"gain a year, {strategy}, before costs", f"{row['hold']:.3f} (buy and hold)"),
        "net": (f"the same net of {1e4 * row['cost']:g} basis points a change", f"{row['hold']:.3f} (buy and hold)"),
        "net_less_hold": ("net gain less that of buy and hold", "0"),
    }
    show_table([
        {"on the test days": said, "found": f"{row[name]:.3f}",
         "95 % interval": "{:.3f} to {:.3f}".format(*row["intervals"][name]), "to beat": beat}
        for name, (said, beat) in lines.items()
    ], f"{row['data']}, {row['test_days']} test days; gains are logarithmic")  # fmt: skip
    low, high = row["intervals"]["error_ratio"]
    verdict = "beats" if high < 1 else "is worse than" if low > 1 else "cannot be told from"
    gain = row["intervals"]["net_less_hold"]
    trade = "beats" if gain[0] > 0 else "loses against" if gain[1] < 0 else "cannot be told from"
    print(
        f"by that interval the forecast {verdict} the naive one (p = {row['diebold_mariano_p']:.2f} by Diebold and "
        "Mariano, for whom days are independent); "
        f"traded, {row['turnover']:.0f} changes a year, it {trade} buy and hold"
    )


def draw(folder: Path, name: str, days: np.ndarray, daily: dict[str, np.ndarray]) -> None:
    """What one unit of money becomes, traded by the forecast net of costs, and held."""
    gains = {"buy and hold": "hold", "by the forecast": "net"}
    figure = jann.plots.curves(
        {label: np.exp(np.cumsum(daily[gain])) for label, gain in gains.items()},
        xlabel=f"trading days from {days[0]}", ylabel="value of 1 invested, net of costs", title=f"{name}, test days",
    )  # fmt: skip
    save_figures(folder, value=figure)


def main(
    data: Literal["google", "sp500", "apple"] = "google",
    model: Literal["linear", "lstm"] = "lstm",
    lookback: int = 20,
    cost: float = 0.0005,
    short: bool = False,
    seeds: int = 3,
    seed: int = 1,
    out: Path | None = None,
) -> None:
    """Forecasts the next day's price, and says whether that is better than the last price, and worth its costs.

    Args:
        data: Google's prices (with matplotlib), the S&P 500 or Apple's (downloaded).
        model: A linear map of the last days, or an LSTM over them.
        lookback: Trading days that a forecast is made from.
        cost: Share of the traded value that a change of position costs; 0.0005 is 5 basis points.
        short: Sell short when the forecast is down, instead of holding nothing.
        seeds: How many models, whose forecasts are averaged.
        seed: The first seed.
        out: The run folder, by default runs/stocks-DATA-MODEL. The same command goes on with an interrupted run.
    """
    at_least_one(lookback=lookback, seeds=seeds)
    if not 0 <= cost < 0.5:  # a change from long to short costs it twice
        raise SystemExit(f"--cost {cost:g}: a share of what is traded, from 0 to less than 0.5")
    out = out or Path(f"runs/stocks-{data}-{model}")
    run(out, jann.data.load(data), model_of(model, lookback, 4), lookback, RECIPE, cost, short, seeds, seed)


if __name__ == "__main__":
    command(main)
