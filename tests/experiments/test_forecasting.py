"""The forecasting experiment, small: every test window counts once, it resumes, quantiles are calibrated."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from experiments import forecasters, forecasting
from experiments.forecasters import (
    KNOWN,
    POINT,
    QUANTILE,
    QUANTILES,
    ByChannel,
    Recipe,
    calibrated,
    last_day,
    quantile_errors,
    rolling,
)
from experiments.forecasting import model_of, run
from jann.data import Series
from jann.data.time_series import calendar
from jann.layers import instance_norm


@pytest.fixture(scope="module")
def series():
    """The first 700 hours of the synthetic series, two channels."""
    whole = jann.data.load("seasonal")
    return Series("short", whole.times[:700], whole.values[:700, :2], ("a", "b"), (400, 520, 700))


def test_each_task_has_a_run_folder_of_its_own(monkeypatch):
    folders = []
    monkeypatch.setattr(forecasting, "run", lambda out, *_: folders.append(str(out)))
    forecasting.main()
    forecasting.main(lookback=336)
    forecasting.main(model="lstm", horizon=24)
    tasks = "dlinear-96-96", "dlinear-336-96", "lstm-96-24"
    assert folders == [f"runs/forecasting-seasonal-{task}" for task in tasks]


def arguments(out, series, name="dlinear", **fields):
    model, task = model_of(name, series, 24, 5)
    return {
        "out": out, "series": series, "name": name, "model": dataclasses.replace(model, **fields), "task": task,
        "recipe": Recipe(epochs=4, batch_size=32, learning_rate=3e-3), "lookback": 24, "horizon": 5, "seeds": 2,
        "seed": 3,
    }  # fmt: skip


def by_hand(series, forecast):
    """MSE and MAE over all test windows in a plain loop, forecast(past[24, channels]) -> [5, channels]."""
    values, squares, sizes = series.standardised, [], []
    for first in range(series.ends[1], series.ends[2] - 4):
        error = forecast(values[first - 24 : first]) - values[first : first + 5]
        squares.append((error**2).mean())
        sizes.append(np.abs(error).mean())
    assert len(squares) == 180 - 4
    return np.mean(squares), np.mean(sizes)


def test_rolling_evaluation_is_a_plain_loop_over_every_window(series, monkeypatch):
    model, task = model_of("dlinear", series, 24, 5)
    params = model.init(jax.random.key(0))
    one = jax.jit(model)
    want = by_hand(series, lambda past: np.asarray(one(params, past)))
    got = rolling(series, "test", jann.measure(model, task.criterion, task.inputs), params, task, 24, 5)
    np.testing.assert_allclose([got["mse"], got["mae"]], want, rtol=1e-5)
    repeated = rolling(series, "test", last_day, None, POINT, 24, 5)
    np.testing.assert_allclose(
        [repeated["mse"], repeated["mae"]], by_hand(series, lambda past: past[:5]), rtol=1e-5
    )  # the day before is all that is looked back on


def test_results_are_those_of_the_saved_models_and_an_interrupted_run_ends_alike(series, tmp_path, monkeypatch):
    run(**arguments(tmp_path / "run", series))
    row, naive = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    np.testing.assert_allclose(naive["test_mse"]["mean"], by_hand(series, lambda past: past[:5])[0], rtol=1e-5)
    for seed, mse, mae in zip((3, 4), row["test_mse"]["seeds"], row["test_mae"]["seeds"], strict=True):
        model, params = jann.load(tmp_path / "run" / f"seed-{seed}")
        one = jax.jit(model)
        np.testing.assert_allclose(by_hand(series, lambda x: np.asarray(one(params, x))), (mse, mae), rtol=1e-4)  # noqa: B023
        logged = [json.loads(line) for line in (tmp_path / f"run/seed-{seed}/metrics.jsonl").read_text().splitlines()]
        measure = jann.measure(model, POINT.criterion, POINT.inputs)
        validation = rolling(series, "validation", measure, params, POINT, 24, 5)
        np.testing.assert_allclose(validation["mse"], min(each["validation_loss"] for each in logged), rtol=1e-5)
    for name in ("forecasts", "loss"):
        assert (tmp_path / "run" / f"{name}.png").exists(), name

    fit = forecasters.jann.fit

    def fit_half(step, batches, train_state, n, **options):
        return fit(step, batches, train_state, n // 2, **options)

    broken = arguments(tmp_path / "broken", series)
    monkeypatch.setattr(forecasters.jann, "fit", fit_half)
    with pytest.raises(SystemExit, match="130"):
        run(**broken)
    assert not (tmp_path / "broken" / "results.json").exists()
    monkeypatch.setattr(forecasters.jann, "fit", fit)
    run(**broken)
    assert (tmp_path / "broken/results.json").read_bytes() == (tmp_path / "run/results.json").read_bytes()


def test_training_stops_early_and_the_best_parameters_are_kept(series, tmp_path):
    given = arguments(tmp_path, series)
    recipe = Recipe(epochs=60, batch_size=8, learning_rate=0.1, patience=2)  # far too fast to go on improving
    history, params = forecasters.train_one(tmp_path, series, given["model"], POINT, recipe, 24, 5, 0)
    losses = history["validation_loss"]
    assert len(losses) < 60 and len(losses) - 1 - losses.argmin() == 2
    measure = jann.measure(given["model"], POINT.criterion, POINT.inputs)
    mse = rolling(series, "validation", measure, params, POINT, 24, 5)["mse"]
    np.testing.assert_allclose(mse, losses.min(), rtol=1e-5)


def test_the_transformer_trains_and_is_reported(series, tmp_path):
    given = arguments(tmp_path, series, "tft", hidden=4, heads=1, dropout=0.0)  # noise takes long to compile
    run(**{**given, "seeds": 1, "recipe": Recipe(epochs=2, batch_size=16, learning_rate=0.01)})
    raw, shifted, naive = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert shifted["model"] == "tft, shifted to cover validation" and raw["test_mse"] != shifted["test_mse"]
    assert "coverage_0.5" not in naive
    logged = [json.loads(line) for line in (tmp_path / "seed-3/metrics.jsonl").read_text().splitlines()]
    assert logged[1]["loss"] < 0.9 * logged[0]["loss"]
    for q in QUANTILES:
        assert abs(raw[f"coverage_{q:g}"]["mean"] - q) < 0.15
    for name in ("forecasts", "loss", "importances", "attention"):
        assert (tmp_path / f"{name}.png").exists(), name


class Constant(jann.Model):
    """The same normalised quantiles for every window, [..., horizon, quantiles]."""

    def spec(self):
        return {"quantiles": {"bias": jann.Param({"quantiles": 3})}}

    def apply(self, params, inputs, state=None, key=None):
        _, mean, deviation = instance_norm(inputs["observed"])
        quantiles = jnp.broadcast_to(params["quantiles"]["bias"], (*mean.shape[:-2], 5, 3))
        return quantiles * deviation + mean, state


def test_calibration_makes_the_coverage_of_the_validation_part_nominal(series):
    model, params = Constant(), {"quantiles": {"bias": jnp.array([0.3, 0.3, -0.2])}}
    measure = jann.measure(model, QUANTILE.criterion, QUANTILE.inputs)
    moved = calibrated(model, params, series, 24, 5)
    covered = rolling(series, "validation", measure, moved, QUANTILE, 24, 5)
    np.testing.assert_allclose([covered[f"coverage_{q:g}"] for q in QUANTILES], QUANTILES, atol=2e-3)
    before = rolling(series, "validation", measure, params, QUANTILE, 24, 5)
    assert abs(before["coverage_0.1"] - 0.1) > 0.2


def test_coverage_and_quantile_loss_of_a_forecast_that_is_known():
    """Uniform truth on 0..1 and its own quantiles: nominal coverage."""
    target = jnp.asarray((np.arange(1000) + 0.5) / 1000).reshape(1, 2, 500)
    outputs = jnp.broadcast_to(jnp.array(QUANTILES), (1, 2, 500, 3))
    got = quantile_errors(outputs, {"target": target})
    for q in QUANTILES:
        np.testing.assert_allclose(got[f"coverage_{q:g}"], q, atol=1e-6)
    # E max(q e, (q - 1) e) = q (1 - q) / 2 at the quantile of a uniform distribution
    np.testing.assert_allclose(got["loss"], np.mean([q * (1 - q) / 2 for q in QUANTILES]), rtol=1e-3)


def test_even_attention_is_drawn_even_for_the_steps_that_few_see():
    seen = np.tril(np.ones((5, 9)), k=4)
    weights = np.broadcast_to(seen / seen.sum(-1, keepdims=True), (2, 3, 5, 9))
    np.testing.assert_allclose(forecasting.attended(weights), np.ones(9))


def test_each_channel_is_a_series_with_its_number_and_the_hours_ahead(series):
    windows = series.windows("test", 24, 5)
    start = windows.starts["start"][:3]
    batch = ByChannel(windows)({"start": start})
    inputs, plain = batch["inputs"], windows.cut({"start": start})
    np.testing.assert_array_equal(inputs["observed"][:, 1, :, 0], plain["past"][..., 1])
    np.testing.assert_array_equal(batch["target"][:, 1], plain["target"][..., 1])
    assert inputs["static"][..., 0].tolist() == [[0, 1]] * 3 and KNOWN == ("hour", "weekday")
    for i, first in enumerate(start):
        for channel in range(2):
            np.testing.assert_array_equal(inputs["known"][i, channel], calendar(series.times)[first : first + 29, :2])
