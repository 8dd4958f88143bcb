"""Forecasting several series many steps ahead: DLinear, an LSTM, PatchTST and the Temporal Fusion Transformer.

    python -m experiments.forecasting --model dlinear
    python -m experiments.forecasting --data etth1 --model patchtst

The default data is synthetic. Every window of the test part counts, one step apart, none left out; errors are of
standardised values, as in the benchmark of the ETT data. Training stops early on the validation part and the best
parameters there are the ones tested. The Temporal Fusion Transformer forecasts quantiles: their coverage is reported as
it comes, and once more after they were shifted so that they are right on the validation part.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

import jann
from experiments.forecasters import (
    KNOWN,
    POINT,
    QUANTILE,
    QUANTILES,
    Recipe,
    Task,
    calibrated,
    last_day,
    rolling,
    train_one,
)
from experiments.reporting import (
    at_least_one,
    command,
    each_seed,
    given,
    more_than_zero,
    over_seeds,
    save_figures,
    show_table,
    write_results,
)
from jann.data import Series
from jann.data.time_series import CALENDAR

PUBLISHED = {  # test MSE / MAE on ETTh1, by model and look-back
    ("dlinear", 96): "0.386 / 0.400 (Liu et al. 2024, arXiv:2310.06625)",
    ("dlinear", 336): "0.375 / 0.399 (Zeng et al. 2023)",
    ("patchtst", 96): "0.414 / 0.419 (Liu et al. 2024, arXiv:2310.06625)",
    ("patchtst", 336): "0.375 / 0.399 (Nie et al. 2023)",
    ("patchtst", 512): "0.370 / 0.400 (Nie et al. 2023)",
}

RECIPES = {
    "dlinear": Recipe(epochs=10, batch_size=32, learning_rate=1e-3),
    "lstm": Recipe(epochs=8, batch_size=64, learning_rate=1e-3),
    "patchtst": Recipe(epochs=8, batch_size=128, learning_rate=2e-3),
    "tft": Recipe(epochs=2, batch_size=32, learning_rate=2e-3, every=132),
}


def model_of(name: str, series: Series, lookback: int, horizon: int) -> tuple[jann.Model, Task]:
    channels = len(series.columns)
    if name == "dlinear":
        return jann.models.DLinear(lookback, horizon), POINT
    if name == "lstm":
        return jann.models.LSTMForecaster(channels, horizon, hidden=128, dropout=0.2), POINT
    if name == "patchtst":
        patch = min(16, lookback)
        return jann.models.PatchTST(lookback, horizon, patch, -(-patch // 2), hidden=64, dropout=0.2), POINT
    known = tuple(CALENDAR[name] for name in KNOWN)
    model = jann.models.TemporalFusionTransformer(
        lookback, horizon, known=known, static=(channels,), quantiles=QUANTILES, dropout=0.1, normalise=True
    )
    return model, QUANTILE


def main(
    data: Literal["seasonal", "etth1"] = "seasonal",
    model: Literal["dlinear", "lstm", "patchtst", "tft"] = "dlinear",
    lookback: int = 96,
    horizon: int = 96,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seeds: int = 3,
    seed: int = 1,
    out: Path | None = None,
) -> None:
    """Trains a forecaster and reports its error on every window of the test part, beside the published one.

    Args:
        data: A synthetic seasonal series, or the electricity transformer ETTh1 (found through JANN_DATA).
        model: DLinear, an LSTM, PatchTST or the Temporal Fusion Transformer (quantiles).
        lookback: Steps that a forecast is made from.
        horizon: Steps that are forecast.
        epochs: Passes over the training windows, at most; each model has its own default.
        batch_size: Windows in a step; each model has its own default.
        learning_rate: Peak of the schedule; each model has its own default.
        seeds: How many runs, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/forecasting-DATA-MODEL-LOOKBACK-HORIZON. The same command goes on with an
            interrupted run.
    """
    at_least_one(lookback=lookback, horizon=horizon, epochs=epochs, batch_size=batch_size, seeds=seeds)
    more_than_zero(learning_rate=learning_rate)
    own = given(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    recipe = dataclasses.replace(RECIPES[model], **own)
    series = jann.data.load(data)
    network, task = model_of(model, series, lookback, horizon)
    out = out or Path(f"runs/forecasting-{data}-{model}-{lookback}-{horizon}")
    run(out, series, model, network, task, recipe, lookback, horizon, seeds, seed)


def run(
    out: Path, series: Series, name: str, model: jann.Model, task: Task, recipe: Recipe, lookback: int, horizon: int,
    seeds: int, seed: int,
) -> None:  # fmt: skip
    """Trains `seeds` forecasters, one after another, each in a folder of its own in `out`; reports on all of them."""
    config = {"data": series.name, "model": jann.to_json(model), "recipe": dataclasses.asdict(recipe),
              "lookback": lookback, "horizon": horizon, "seeds": seeds, "seed": seed}  # fmt: skip
    folder = jann.open_run(out, config)
    print(series, jann.summary(model), sep="\n\n", end="\n\n")
    roll = partial(rolling, series, "test", task=task, lookback=lookback, horizon=horizon)
    measure = jann.measure(model, task.criterion, task.inputs)

    def one(at, number):
        history, params = train_one(at, series, model, task, recipe, lookback, horizon, number)
        test, again = roll(measure, params), None
        if task is QUANTILE:
            again = roll(measure, calibrated(model, params, series, lookback, horizon))
        return test, again, history, params

    results = each_seed(folder, seeds, seed, one)
    tests, recalibrated, histories, params = zip(*results, strict=True)

    def row(name, measured):
        means = {f"test_{metric}": over_seeds([test[metric] for test in measured]) for metric in ("mse", "mae")}
        covered = [metric for metric in measured[0] if metric.startswith("coverage")]
        return {"model": name, **means, **{m: over_seeds([test[m] for test in measured]) for m in covered}}

    rows = [row(name, tests)]
    if task is QUANTILE:
        rows.append(row(f"{name}, shifted to cover validation", recalibrated))
    rows.append(row("the last day again", [rolling(series, "test", last_day, None, POINT, lookback, horizon)]))
    about = {"data": series.name, "lookback": lookback, "horizon": horizon, "parameters": jann.count(model)}
    write_results(folder, [{**about, **each} for each in rows[:-1]] + [{**about, "parameters": 0, **rows[-1]}])
    figures(folder, series, name, model, params[-1], task, lookback, horizon, histories)
    n = len(series.windows("test", lookback, horizon).starts["start"])
    columns = dict.fromkeys(column for each in rows for column in each)
    show_table(
        [{column: each.get(column, "") for column in columns} for each in rows],
        f"{series.name}, {lookback} → {horizon} steps: means over all {n:,} test windows, standardised",
    )
    if (series.name, horizon) == ("etth1", 96) and (name, lookback) in PUBLISHED:
        print(f"published MSE / MAE: {PUBLISHED[name, lookback]}")
    print(f"wrote {folder}; jann.load({str(folder / f'seed-{seed}')!r}) gives the first model back")


def figures(
    folder: Path, series: Series, name: str, model: jann.Model, params: Any, task: Task, lookback: int, horizon: int,
    histories: list[dict],
) -> None:  # fmt: skip
    """Learning curves; for the last seed, a forecast of the test part and what the transformer selected there."""
    windows = series.windows("test", lookback, horizon)
    starts = windows.starts["start"][:: max(1, len(windows.starts["start"]) // 32)]
    shown = len(starts) // 2
    batch = jax.jit(task.prepare(windows))({"start": starts})
    plain = windows.cut({"start": starts[shown]})
    predicted, taps = jax.jit(jann.observe(model))(params, batch[task.inputs])
    predicted, (past, truth) = np.asarray(predicted)[shown], (np.asarray(plain[n]).T for n in ("past", "target"))
    n = min(len(history["step"]) for history in histories)
    losses = {"train": "loss", "validation": "validation_loss"}
    drawn = {
        "forecasts": jann.plots.forecasts(
            past, truth, predicted if task is QUANTILE else predicted.T, names=series.columns,
            quantiles=QUANTILES if task is QUANTILE else None,
            title=f"{series.name}, {name}: a window of the test part, standardised",
        ),
        "loss": jann.plots.curves(
            {label: np.stack([history[loss][:n] for history in histories]) for label, loss in losses.items()},
            x=histories[0]["step"][:n], ylabel="loss",
        ),
    }  # fmt: skip
    if task is QUANTILE:
        means = {group: np.asarray(taps[f"{group}_weights"]).reshape(-1, taps[f"{group}_weights"].shape[-1]).mean(0)
                 for group in ("past", "future")}  # fmt: skip
        names = {"past": ("value", *KNOWN), "future": KNOWN}
        drawn["importances"] = jann.plots.importances(
            {group: dict(zip(names[group], map(float, means[group]), strict=True)) for group in means},
            xlabel="mean selection weight", title="What the transformer selects",
        )
        drawn["attention"] = jann.plots.curves(
            {"mean over windows, channels and forecast steps": attended(np.asarray(taps["attention"]))},
            x=np.arange(-lookback, horizon), xlabel="step attended to (the first forecast is 0)",
            ylabel="attention (1: an even share)", title="Attention, mean over the forecast steps that can see a step",
        )
    save_figures(folder, **drawn)


def attended(weights: np.ndarray) -> np.ndarray:
    """weights[..., horizon, lookback + horizon] -> [time], mean over those of the horizon that can see a step.

    A step of the horizon sees what came before it, and itself. Its weights are in units of an even share of all that,
    so that 1 everywhere is no preference.
    """
    horizon, time = weights.shape[-2:]
    seen = np.arange(time - horizon + 1, time + 1)
    sums = (weights * seen[:, None]).sum(-2).reshape(-1, time).mean(0)
    return sums / np.minimum(horizon, np.arange(time, 0, -1))


if __name__ == "__main__":
    command(main)
