"""Cells told from the membranes between them, pixel by pixel, by a U-Net.

    python -m experiments.segmentation
    python -m experiments.segmentation --data isbi2012

Trained on parts of the images that are turned, mirrored and bent; judged on whole ones, as the mean over the eight
symmetries of the square. Above which probability a pixel is a cell is chosen on validation images. A run that was
interrupted goes on with the same command.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import ndimage

import jann
from experiments.reporting import (
    at_least_one,
    command,
    each_seed,
    metric_curves,
    more_than_zero,
    not_negative,
    over_seeds,
    save_figures,
    show_table,
    write_results,
)
from experiments.schedules import warmup_cosine
from jann.analysis import intersection_over_union, rand_f_score

THRESHOLDS = np.linspace(0.3, 0.95, 27)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """steps; batch_size parts of window × window pixels in each; bend: deviation of the elastic deformation, pixels"""

    steps: int
    batch_size: int
    window: int
    bend: float
    widths: tuple[int, ...]
    learning_rate: float = 2e-3


RECIPES = {
    "synthetic_cells": Recipe(200, 8, 64, 2.0, (8, 16, 32)),
    "isbi2012": Recipe(800, 8, 128, 6.0, (16, 32, 64, 128)),
}
PUBLISHED = {"isbi2012": "0.061 on other slices (Ronneberger et al. 2015)"}


@dataclasses.dataclass(frozen=True)
class Parts:
    """A transform: whole images and labels -> random parts of them, turned, mirrored, bent, of other contrast."""

    standardise: Any
    window: int
    bend: float

    def __call__(self, batch: dict, key: jax.Array) -> dict:
        image = self.standardise(batch)["image"]
        both = jnp.concatenate([image, batch["label"][..., None].astype(image.dtype)], -1)
        # a part with a margin, so that the bent one has few mirrored pixels
        margin = min(self.window + 4 * round(self.bend), both.shape[1])
        both = jann.data.random_window(both, jann.fold(key, "part"), margin)
        both = jann.data.random_symmetry(both, jann.fold(key, "symmetry"))
        both = jann.data.random_deform(both, jann.fold(key, "bend"), self.bend)
        at = (margin - self.window) // 2
        both = both[:, at : at + self.window, at : at + self.window]
        image, label = both[..., :1], (both[..., 1] > 0.5).astype(jnp.int32)
        contrast, light = jax.random.normal(jann.fold(key, "contrast"), (2, len(image), 1, 1, 1))
        return {"image": image * jnp.exp(0.15 * contrast) + 0.15 * light, "label": label}


def of_pixels(logits: jax.Array, batch: dict) -> dict[str, jax.Array]:
    """Cross-entropy and accuracy of each image, [batch], means over its pixels"""
    return {name: values.mean((-2, -1)) for name, values in jann.classification(logits, batch).items()}


@partial(jax.jit, static_argnums=0)
def probabilities(model: jann.Model, params: Any, images: jax.Array) -> jax.Array:
    """images[n, size, size, 1] -> of being a cell, [n, size, size]: the mean over the square's eight symmetries"""

    def of(image):
        total = 0.0
        for turns in range(4):
            for mirrored in (False, True):
                seen = jnp.rot90(image[:, ::-1] if mirrored else image, turns)
                cell = jnp.rot90(jax.nn.softmax(model(params, seen))[..., 1], -turns)
                total += cell[:, ::-1] if mirrored else cell
        return total / 8

    return jax.lax.map(of, images)


def judged(cell: np.ndarray, label: np.ndarray, threshold: float) -> dict[str, float]:
    """Probabilities and labels [n, size, size] -> what is right, a mean over images for the Rand F-score

    Segments are cells that touch, not across corners, as the challenge has it.
    """
    found, scores = cell > threshold, []
    for ours, true in zip(found, label, strict=True):
        scores.append(rand_f_score(ndimage.label(ours)[0], ndimage.label(true)[0]))
    return {
        "pixel_error": float((found != (label == 1)).mean()),
        "membrane_iou": intersection_over_union(~found, label == 0),
        "cell_iou": intersection_over_union(found, label == 1),
        "rand_f_score": float(np.mean(scores)),
    }


def train_one(folder: Path, dataset: Any, model: jann.Model, recipe: Recipe, seed: int) -> tuple[dict, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (what is found on test images, history, probabilities)"""
    key = jax.random.key(seed)
    transform = Parts(dataset.standardise, recipe.window, recipe.bend)
    repeated = jax.tree.map(lambda array: np.repeat(array, -(-recipe.batch_size // len(array)), 0), dataset.train)
    batches = jann.data.batches(repeated, recipe.batch_size, jann.fold(key, "batches"), transform)
    optimizer = optax.adamw(
        warmup_cosine(recipe.learning_rate, recipe.steps), weight_decay=1e-4, mask=jann.decay_mask(model)
    )
    measure = partial(
        jann.evaluate, jann.measure(model, of_pixels), size=1, transform=dataset.standardise
    )  # fmt: skip

    def validate(train_state):
        found = measure(jann.eval_params(train_state), dataset.validation)
        return {f"validation_{name}": value for name, value in found.items()}

    state, history = jann.fit(
        jann.make_step(jann.objective(model, of_pixels), optimizer, average=0.99),
        batches, jann.start(model, optimizer, key, average_weights=True), recipe.steps,
        every=recipe.steps // 10, evaluate=validate, folder=folder, model=model,
    )  # fmt: skip
    if int(state.step) < recipe.steps:
        raise KeyboardInterrupt
    predict = partial(probabilities, model, jann.eval_params(state))
    shown, test = (np.asarray(predict(dataset.standardise(part)["image"])) for part in
                   (dataset.validation, dataset.test))  # fmt: skip
    found = {}
    for metric, better in (("pixel_error", min), ("rand_f_score", max)):  # each has a threshold of its own
        on_validation = {t: judged(shown, dataset.validation["label"], t)[metric] for t in THRESHOLDS}
        threshold = better(on_validation, key=on_validation.get)
        on_test = judged(test, dataset.test["label"], threshold)
        found |= on_test if metric == "pixel_error" else {"rand_f_score": on_test["rand_f_score"]}
        found[f"threshold_{metric}"] = float(threshold)
    return found, history, test


def main(
    data: Literal["synthetic_cells", "isbi2012"] = "synthetic_cells",
    widths: tuple[int, ...] | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    window: int | None = None,
    bend: float | None = None,
    learning_rate: float | None = None,
    seeds: int = 1,
    seed: int = 0,
    out: Path = Path("runs/segmentation"),
) -> None:
    """Trains a U-Net to tell cells from membranes; judges it on whole images, pixel by pixel and cell by cell.

    Args:
        data: Drawn cells, or slices of nerve tissue (ISBI 2012), which must be downloaded by hand.
        widths: Channels of each level of the U-Net; multiples of 8.
        steps: Training steps; a multiple of 10.
        batch_size: Parts of images in a step.
        window: Height and width of a part in pixels; a multiple of 2 for each level but the first.
        bend: Standard deviation of the random deformation, pixels.
        learning_rate: Peak of the schedule.
        seeds: Runs, one after another.
        seed: The first one's number, from which its random keys come.
        out: The run folder. The same command goes on with an interrupted run.
    """
    given = {"widths": widths, "steps": steps, "batch_size": batch_size, "window": window, "bend": bend,
             "learning_rate": learning_rate}  # fmt: skip
    recipe = dataclasses.replace(RECIPES[data], **{name: value for name, value in given.items() if value is not None})
    at_least_one(widths=recipe.widths, batch_size=recipe.batch_size, window=recipe.window, seeds=seeds)
    more_than_zero(learning_rate=recipe.learning_rate)
    not_negative(bend=recipe.bend)
    if recipe.steps < 10 or recipe.steps % 10:
        raise SystemExit(f"--steps {recipe.steps}: give a multiple of 10, after each tenth of which it is evaluated")
    if any(width < 8 or width % 8 for width in recipe.widths):
        raise SystemExit(f"--widths {' '.join(map(str, recipe.widths))}: give multiples of 8, the groups of the norms")
    dataset = jann.data.load(data)
    coarsest, size = 2 ** (len(recipe.widths) - 1), dataset.train["image"].shape[1]
    if recipe.window % coarsest or recipe.window > size:
        raise SystemExit(f"--window {recipe.window}: give a multiple of {coarsest}, at most the images' {size} pixels")
    model = jann.models.SegmentationUNet(widths=recipe.widths)
    folder = jann.open_run(out, {"data": data, "seeds": seeds, "seed": seed, **dataclasses.asdict(recipe)})
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")
    runs = each_seed(folder, seeds, seed, lambda at, number: train_one(at, dataset, model, recipe, number))
    results, histories, cells = zip(*runs, strict=True)
    label = dataset.test["label"]
    row = {"data": data, "parameters": jann.count(model),
           **{name: over_seeds([result[name] for result in results]) for name in results[0]},
           "all_cell_error": float((label == 0).mean()), "published": PUBLISHED.get(data, "")}  # fmt: skip
    write_results(folder, [row])
    figures(folder, dataset, cells[-1], results[-1]["threshold_pixel_error"], histories)
    show_table([{"result": name, "": value} for name, value in row.items()], f"{data}: {seeds} seeds")
    print(f"wrote {folder}; jann.load({str(folder / f'seed-{seed}')!r}) gives the first model back")


def figures(folder: Path, dataset: Any, cell: np.ndarray, threshold: float, histories: list) -> None:
    """Learning curves; the first test images, what is true, what was thought, and where that is wrong."""
    shown = slice(0, 3)
    image, label, cell = dataset.test["image"][shown], dataset.test["label"][shown], cell[shown]
    grey = np.repeat(image / dataset.scale, 3, -1)
    wrong = np.where((label == 1) & (cell <= threshold), 1, np.where((label == 0) & (cell > threshold), 2, 0))
    colours = np.array([[0, 0, 0], [0.84, 0.37, 0.0], [0.0, 0.45, 0.7]])
    mistakes = np.where(wrong[..., None] > 0, colours[wrong], 0.4 + 0.6 * grey)
    rows = [np.repeat(pictures[..., None], 3, -1) for pictures in (label.astype(float), cell)]
    pictures = np.stack([grey, *rows, mistakes], 1).reshape(-1, *grey.shape[1:])
    captions = ["image", "true: cells white", "probability of a cell", "orange: membrane said; blue: cell said"]
    figure = jann.plots.images(np.clip(pictures, 0, 1), captions * len(image), columns=4)
    curves = metric_curves(
        histories, {"train (parts)": "loss", "validation (whole)": "validation_loss"},
        ylabel="cross-entropy of a pixel (nats)", log_y=True,
    )  # fmt: skip
    save_figures(folder, loss=curves, segments=figure)


if __name__ == "__main__":
    command(main)
