"""What the image experiments share: one `fit` a seed, exact evaluation, and a report beside the published figure."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import jann
from experiments.reporting import (
    each_seed,
    metric_curves,
    mistakes,
    over_seeds,
    save_figures,
    show_table,
    write_results,
)
from experiments.schedules import warmup_cosine


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    epochs:         passes over the training images
    batch_size:     images in a step
    learning_rate:  peak of a warm-up (5 % of the steps) and cosine schedule
    weight_decay:   decay of the kernels (AdamW); biases and norms are left alone
    average:        decay of a running average of the weights, which then is what is evaluated; None keeps none
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    average: float | None = None


def optimizer_of(recipe: Recipe, model: jann.Model, steps: int) -> optax.GradientTransformation:
    adamw = optax.inject_hyperparams(optax.adamw, static_args=("mask",))
    schedule = warmup_cosine(recipe.learning_rate, steps)
    return adamw(schedule, weight_decay=recipe.weight_decay, mask=jann.decay_mask(model))


def train_one(
    folder: Path,
    dataset: Any,
    model: jann.Model,
    recipe: Recipe,
    transform: Callable,
    prepare: Callable,
    seed: int,
    begin: Callable[[Any], Any] | None = None,
) -> tuple[dict, dict, Any]:
    """One seed, resumed where it was interrupted: -> (test means, history, parameters).

    transform:  (batch, key) -> batch, for training (augmentation); prepare: the same without noise, for evaluation
    begin:      parameters as drawn -> those to start from
    """
    key = jax.random.key(seed)
    batches = jann.data.batches(dataset.train, recipe.batch_size, jax.random.fold_in(key, 1), transform)
    steps = recipe.epochs * batches.steps_per_epoch
    optimizer = optimizer_of(recipe, model, steps)
    start = jann.start(model, optimizer, key, average_weights=recipe.average is not None)
    start = start.replace(params=begin(start.params)) if begin else start
    measure = partial(jann.evaluate, jann.measure(model), size=1000, transform=prepare)

    def validate(train_state):
        means = measure(jann.eval_params(train_state), dataset.validation)
        return {f"validation_{name}": value for name, value in means.items()}

    train_state, history = jann.fit(
        jann.make_step(jann.objective(model), optimizer, average=recipe.average),
        batches,
        start,
        steps,
        every=batches.steps_per_epoch,
        evaluate=validate,
        folder=folder,
        model=model,
    )
    if int(train_state.step) < steps:
        raise KeyboardInterrupt
    params = jann.eval_params(train_state)
    return measure(params, dataset.test), history, params


def run(
    out: Path,
    dataset: Any,
    model: jann.Model,
    recipe: Recipe,
    *,
    transform: Callable,
    prepare: Callable,
    published: str,
    seeds: int,
    seed: int,
    notes: dict | None = None,
    begin: Callable[[Any], Any] | None = None,
    look: Callable[[Any], dict[str, Figure]] | None = None,
) -> None:
    """Trains `seeds` classifiers, one after another, each in a folder of its own in `out`; reports on all of them.

    begin:  parameters as drawn -> those to start from
    look:   parameters (of the last seed) -> further figures by name
    """
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": dataset.name})
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")

    def one(at, number):
        return train_one(at, dataset, model, recipe, transform, prepare, number, begin)

    results = each_seed(folder, seeds, seed, one)
    tests, histories, params = zip(*results, strict=True)
    accuracy = over_seeds([float(test["accuracy"]) for test in tests])
    error = {name: 100 * (1 - np.asarray(value)) for name, value in accuracy.items()}
    row = {
        "dataset": dataset.name,
        "model": repr(model),
        "parameters": jann.count(model),
        "test_accuracy": accuracy,
        "test_error_percent": {"mean": float(error["mean"]), "low": float(error["high"]), "high": float(error["low"]),
                               "seeds": error["seeds"].tolist()},
        "published": published,
        **(notes or {}),
    }  # fmt: skip
    write_results(folder, [row])
    figures(folder, dataset, model, params[-1], prepare, histories)
    save_figures(folder, **(look(params[-1]) if look else {}))
    show_table([{name: value for name, value in row.items() if name != "model"}], f"{dataset.name}: {row['model']}")
    print(f"wrote {folder}; jann.load({str(folder / f'seed-{seed}')!r}) gives the first model back")


def figures(folder: Path, dataset: Any, model: jann.Model, params: Any, prepare: Callable, histories: list) -> None:
    """Curves over seeds; for the last seed, the confusion matrix, the worst mistakes, and filters if it has any."""
    predict = jax.jit(model)
    labels, images = dataset.test["label"], dataset.test["image"]
    parts = np.array_split(np.arange(len(labels)), -(-len(labels) // 500))
    logits = np.concatenate([predict(params, prepare({"image": images[part]})["image"]) for part in parts])
    epochs = np.arange(1, len(histories[0]["step"]) + 1)
    drawn = {
        "accuracy": metric_curves(
            histories, {"train (augmented)": "accuracy", "validation": "validation_accuracy"},
            x=epochs, xlabel="epoch", ylabel="accuracy",
        ),
        "loss": metric_curves(
            histories, {"train (augmented)": "loss", "validation": "validation_loss"},
            x=epochs, xlabel="epoch", ylabel="cross-entropy (nats)", log_y=True,
        ),
        "confusion": jann.plots.confusion_matrix(labels, logits.argmax(-1), dataset.classes),
    }  # fmt: skip
    wrong = mistakes(dataset, images, labels, logits)
    if wrong is not None:
        drawn["mistakes"] = wrong
    # Those of a stack of blocks also have four axes, without being pictures.
    kernels = [path for path, param in jann.flatten(model.spec()).items() if len(param.into) == 3 and not param.stacked]
    if kernels:
        drawn["filters"] = jann.plots.filters(np.asarray(jann.flatten(params)[kernels[0]]))
        _, taps = jann.observe(model)(params, prepare({"image": images[:1]})["image"])
        maps = [value for value in taps.values() if value.ndim == 4 and len(value) == 1]
        if maps:
            drawn["feature_maps"] = jann.plots.feature_maps(np.asarray(maps[0][0]))
    save_figures(folder, **drawn)
