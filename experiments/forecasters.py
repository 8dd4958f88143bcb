"""What the forecasting experiments share: what each kind of model sees, one `fit` a seed, rolling evaluation."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from experiments.schedules import warmup_cosine
from jann.data import Series, SeriesWindows
from jann.data.time_series import CALENDAR
from jann.layers import instance_norm
from jann.losses import quantile_loss
from jann.training import Checkpoints

QUANTILES = (0.1, 0.5, 0.9)
KNOWN = ("hour", "weekday")
DAY = 24


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a forecaster is trained: Adam with a warm-up and cosine schedule, and early stopping.

    epochs:         passes over the training windows, at most
    batch_size:     windows in a step
    learning_rate:  peak of the schedule
    weight_decay:   decay of the kernels (AdamW)
    patience:       looks at the validation part without a better loss before it stops
    every:          steps between two looks, by default an epoch
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    patience: int = 3
    every: int | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """What a kind of model sees and is measured by.

    inputs:     the name of the batch's entry that the model takes
    criterion:  as in `jann.objective`
    prepare:    windows -> the transform of their batches
    """

    inputs: str
    criterion: Callable
    prepare: Callable[[SeriesWindows], Callable]


def point_errors(outputs: jax.Array, batch: dict) -> dict[str, jax.Array]:
    """outputs[batch, horizon, channels], batch["target"] -> loss and mse, the same, and mae of each window [batch]"""
    error = outputs.astype(jnp.float32) - batch["target"]
    mse, mae = jnp.square(error).mean((-1, -2)), jnp.abs(error).mean((-1, -2))
    return {"loss": mse, "mse": mse, "mae": mae}


def quantile_errors(outputs: jax.Array, batch: dict) -> dict[str, jax.Array]:
    """outputs[batch, channels, horizon, quantiles] -> quantile loss, errors of the median, coverages, each [batch]

    A quantile's coverage is how often the truth is at most the quantile.
    """
    target = batch["target"]
    below = target[..., None] <= outputs
    median = point_errors(outputs[..., QUANTILES.index(0.5)], batch)
    coverage = {f"coverage_{q:g}": below[..., i].mean((-1, -2), jnp.float32) for i, q in enumerate(QUANTILES)}
    loss = quantile_loss(outputs, target, QUANTILES).mean((-1, -2, -3))
    return {"loss": loss, "mse": median["mse"], "mae": median["mae"], **coverage}


@dataclasses.dataclass(frozen=True)
class ByChannel:
    """A transform for the Temporal Fusion Transformer: each channel of a window is a series of its own.

    {"start": [batch]} -> "inputs": {"observed", "known", "static"}[batch, channels, ...], the channel's number being
    the static variable and the hour and weekday known ahead, and "target"[batch, channels, horizon].
    """

    windows: SeriesWindows

    def __call__(self, batch: dict, key: Any = None) -> dict:
        batch = self.windows.cut(batch)
        past, target = (jnp.swapaxes(batch[name], -1, -2) for name in ("past", "target"))
        known = batch["calendar"][..., None, :, [list(CALENDAR).index(name) for name in KNOWN]]
        known = jnp.broadcast_to(known, (*past.shape[:-1], *known.shape[-2:]))
        static = jnp.broadcast_to(jnp.arange(past.shape[-2]).reshape((1,) * (past.ndim - 2) + (-1,)), past.shape[:-1])
        inputs = {"observed": past[..., None], "known": known, "static": static[..., None]}
        return {"start": batch["start"], "inputs": inputs, "target": target}


def whole(windows: SeriesWindows) -> Callable:
    return windows.cut


POINT, QUANTILE = Task("past", point_errors, whole), Task("inputs", quantile_errors, ByChannel)


@functools.lru_cache(maxsize=16)  # so that all seeds share one compilation
def optimizer_and_step(
    model: jann.Model, task: Task, recipe: Recipe, steps: int
) -> tuple[optax.GradientTransformation, Callable]:
    optimizer = optax.inject_hyperparams(optax.adamw, static_args=("mask",))(
        warmup_cosine(recipe.learning_rate, steps),
        weight_decay=recipe.weight_decay, mask=jann.decay_mask(model),
    )  # fmt: skip
    return optimizer, jann.make_step(jann.objective(model, task.criterion, task.inputs), optimizer)


def train_one(
    folder: Path, series: Series, model: jann.Model, task: Task, recipe: Recipe, lookback: int, horizon: int, seed: int
) -> tuple[dict, Any]:
    """One seed, resumed where it was interrupted: -> (history, the parameters that were best on validation)."""
    key = jax.random.key(seed)
    windows = {part: series.windows(part, lookback, horizon) for part in ("train", "validation")}
    transforms = {part: task.prepare(each) for part, each in windows.items()}
    batches = jann.data.batches(
        windows["train"].starts, recipe.batch_size, jax.random.fold_in(key, 1), transforms["train"]
    )
    steps = recipe.epochs * batches.steps_per_epoch
    optimizer, step = optimizer_and_step(model, task, recipe, steps)
    measure = jann.measure(model, task.criterion, task.inputs)

    def validate(train_state):
        means = jann.evaluate(
            measure, jann.eval_params(train_state), windows["validation"].starts, 200, transforms["validation"]
        )
        return {f"validation_{name}": value for name, value in means.items()}

    start, best = jann.start(model, optimizer, key), ("validation_loss", "min")
    train_state, history = jann.fit(
        step, batches, start, steps, every=recipe.every or batches.steps_per_epoch, evaluate=validate, folder=folder,
        best=best, patience=recipe.patience,
    )  # fmt: skip
    losses = history["validation_loss"]
    if int(train_state.step) < steps and len(losses) - 1 - losses.argmin() < recipe.patience:
        raise KeyboardInterrupt
    with Checkpoints(folder, best=best, read_only=True) as checkpoints:
        params = jann.eval_params(checkpoints.restore(start, checkpoints.best_step()))
    jann.save(folder, model, params)
    return history, params


def rolling(series: Series, part: str, measure: Callable, params: Any, task: Task, lookback: int, horizon: int) -> dict:
    """Means over every window of a part, one step apart: {"mse", "mae", ...}."""
    windows = series.windows(part, lookback, horizon)
    means = jann.evaluate(measure, params, windows.starts, 200, task.prepare(windows))
    return {name: float(value) for name, value in means.items() if name != "loss"}


def last_day(params: None, batch: dict) -> dict[str, jax.Array]:
    """The errors of repeating the last 24 steps again and again, a measure without parameters."""
    past, horizon = batch["past"], batch["target"].shape[-2]
    period = min(DAY, past.shape[-2])
    return point_errors(past[..., past.shape[-2] - period + np.arange(horizon) % period, :], batch)


def calibrated(model: jann.Model, params: dict, series: Series, lookback: int, horizon: int) -> dict:
    """Parameters with which the quantiles, each shifted by one number, cover the validation part as they should.

    The shift is in units of a window's own deviation, so it is a change of the last bias: split conformal prediction
    (Romano, Patterson and Candès 2019), for each quantile by itself.
    """
    windows = series.windows("validation", lookback, horizon)
    starts, prepare = windows.starts["start"], ByChannel(windows)
    size = min(200, len(starts))
    parts = np.pad(starts, (0, -len(starts) % size), mode="edge").reshape(-1, size)  # equal, so compiled once
    missed = np.concatenate([np.asarray(_missed(model, prepare, params, part)) for part in parts])[: len(starts)]
    shifts = [np.quantile(missed[..., i], q) for i, q in enumerate(QUANTILES)]
    head = params["quantiles"]
    return {**params, "quantiles": {**head, "bias": head["bias"] + jnp.asarray(shifts, head["bias"].dtype)}}


@partial(jax.jit, static_argnums=(0, 1))
def _missed(model, prepare, params, starts):
    """How far the truth is above each quantile, in deviations of the window: [batch, channels, horizon, quantiles]"""
    batch = prepare({"start": starts})
    deviation = instance_norm(batch["inputs"]["observed"])[2]
    return (batch["target"][..., None] - model(params, batch["inputs"])) / deviation
