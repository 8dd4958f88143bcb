"""Objects found on images, and told apart: blood cells, or digits scattered over a canvas.

    python -m experiments.detection
    python -m experiments.detection --data bccd

A CenterNet from scratch, on images that are mirrored, moved and of other contrast. Above which score a box counts, for
the counts of cells, is chosen on validation images; average precision needs no threshold. A run that was interrupted
goes on with the same command.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from experiments.reporting import (
    at_least_one,
    command,
    each_seed,
    given,
    metric_curves,
    more_than_zero,
    not_negative,
    over_seeds,
    save_figures,
    show_table,
    write_results,
)
from experiments.schedules import warmup_cosine
from jann.analysis import average_precision, precision_and_recall
from jann.boxes import center_loss, center_targets, detections
from jann.data import Boxes
from jann.models import CenterNet
from jann.models.centernet import STRIDE

PARTS = 10  # evaluations of a run


@dataclasses.dataclass(frozen=True)
class Recipe:
    """steps; batch_size images in each; shift: pixels that they are moved by at most; mirrored: whether that is fair"""

    steps: int
    batch_size: int
    shift: int
    mirrored: bool
    widths: tuple[int, ...]
    learning_rate: float = 2e-3


RECIPES = {
    "scattered_digits": Recipe(900, 16, 4, False, (32, 64, 128), 4e-3),
    "bccd": Recipe(1000, 8, 24, True, (32, 64, 128)),
}
PUBLISHED = {"bccd": "0.85 to 0.92 with pre-trained bodies (community)"}


@dataclasses.dataclass(frozen=True)
class Changed:
    """A transform: images and boxes -> both mirrored and moved, the images of other contrast, and what they teach."""

    standardise: Any
    classes: int
    shift: int
    mirrored: bool

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        image, box = self.standardise(batch)["image"], batch["box"]
        n, height, width, _ = image.shape
        if key is not None:
            if self.mirrored:
                across, down = jax.random.bernoulli(jann.fold(key, "mirror"), shape=(2, n, 1, 1))
                image = jnp.where(across[..., None], image[:, :, ::-1], image)
                box = jnp.where(across, box[..., jnp.array([0, 3, 2, 1])] * jnp.array([1, -1, 1, -1])[None, None]
                                + jnp.array([0, width, 0, width])[None, None], box)  # fmt: skip
                image = jnp.where(down[..., None], image[:, ::-1], image)
                box = jnp.where(down, box[..., jnp.array([2, 1, 0, 3])] * jnp.array([-1, 1, -1, 1])[None, None]
                                + jnp.array([height, 0, height, 0])[None, None], box)  # fmt: skip
            shifts = jax.random.randint(jann.fold(key, "shift"), (n, 2), -self.shift, self.shift + 1)
            pads = ((self.shift, self.shift),) * 2 + ((0, 0),)

            def moved(image, by):
                start = (self.shift - by[0], self.shift - by[1], 0)
                return jax.lax.dynamic_slice(jnp.pad(image, pads, "edge"), start, image.shape)

            image = jax.vmap(moved)(image, shifts)
            box = box + jnp.tile(shifts, 2)[:, None].astype(box.dtype)
            contrast, light = jax.random.normal(jann.fold(key, "contrast"), (2, n, 1, 1, 1))
            image = image * jnp.exp(0.15 * contrast) + 0.15 * light
        limits = jnp.array([height, width, height, width], box.dtype)[None, None]
        inside = jnp.clip(box, 0, limits)
        # what is left of a box by less than a half is not asked for
        areas = [(sides[..., 2:] - sides[..., :2]).prod(-1) for sides in (inside, box)]
        label = jnp.where((batch["label"] >= 0) & (areas[0] >= 0.5 * areas[1]), batch["label"], -1)
        shape = height // STRIDE, width // STRIDE
        targets = jax.vmap(partial(center_targets, shape=shape, classes=self.classes, stride=STRIDE))(inside, label)
        return {"image": image, **targets}


def of_boxes(outputs: dict, batch: dict) -> dict[str, jax.Array]:
    """`center_loss` of each image, [batch]"""
    targets = {name: batch[name] for name in ("heatmap", "place", "offset", "size", "there")}
    return jax.vmap(center_loss)(outputs, targets)


@partial(jax.jit, static_argnums=0)
def said(model: CenterNet, params: Any, images: jax.Array) -> Any:
    """images[n, height, width, channels] -> the detections of each"""
    return jax.lax.map(lambda image: detections(model(params, image)), images, batch_size=8)


def of_class(found: Any, part: dict, k: int) -> tuple[list, list]:
    """-> what was found of class k on each image, (boxes, scores), and true boxes"""
    ours = [(box[label == k], score[label == k]) for box, label, score in zip(*found, strict=True)]
    return ours, [box[label == k] for box, label in zip(part["box"], part["label"], strict=True)]


def precisions(found: Any, part: dict, classes: tuple[str, ...], least: float = 0.5) -> np.ndarray:
    """The average precision of each class"""
    return np.array([average_precision(*of_class(found, part, k), least) for k in range(len(classes))])


def counted(found: Any, part: dict, classes: tuple[str, ...], thresholds: np.ndarray) -> np.ndarray:
    """1 − |counted − there| / there of each class, over all images: [classes]"""
    there = np.array([(part["label"] == k).sum() for k in range(len(classes))])
    ours = np.array([((found.label == k) & (found.score > thresholds[k])).sum() for k in range(len(classes))])
    return 1 - np.abs(ours - there) / np.maximum(there, 1)


def thresholds_of(found: Any, part: dict, classes: tuple[str, ...]) -> np.ndarray:
    """For each class the score above which most of what is found is right and most of what is right is found (F1)"""
    chosen = []
    for k in range(len(classes)):
        ours, true = of_class(found, part, k)
        _, precision, recall = precision_and_recall(ours, true)
        scores = -np.sort(-np.concatenate([score for _, score in ours]))
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        best = int(f1.argmax())
        after = scores[best + 1] if best + 1 < len(scores) else 0.0
        chosen.append((scores[best] + after) / 2)
    return np.array(chosen)


def train_one(folder: Path, data: Boxes, model: CenterNet, recipe: Recipe, seed: int) -> tuple[dict, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (what is found on test images, history, the detections)"""
    key, classes = jax.random.key(seed), len(data.classes)
    standardise = data.standardise
    change = Changed(standardise, classes, recipe.shift, recipe.mirrored)
    batches = jann.data.batches(data.train, recipe.batch_size, jann.fold(key, "batches"), change)
    optimizer = optax.chain(
        optax.clip_by_global_norm(10.0),
        optax.adamw(warmup_cosine(recipe.learning_rate, recipe.steps), weight_decay=1e-4, mask=jann.decay_mask(model)),
    )
    measure = partial(jann.evaluate, jann.measure(model, of_boxes), size=16, transform=change)

    def validate(train_state):
        found = measure(jann.eval_params(train_state), data.validation)
        return {f"validation_{name}": value for name, value in found.items()}

    state, history = jann.fit(
        jann.make_step(jann.objective(model, of_boxes), optimizer, average=0.99),
        batches, jann.start(model, optimizer, key, average_weights=True), recipe.steps,
        every=recipe.steps // PARTS, evaluate=validate, folder=folder, model=model,
    )  # fmt: skip
    if int(state.step) < recipe.steps:
        raise KeyboardInterrupt
    find = partial(said, model, jann.eval_params(state))
    shown, test = (jax.device_get(find(standardise(part)["image"])) for part in (data.validation, data.test))
    thresholds = thresholds_of(shown, data.validation, data.classes)
    each = precisions(test, data.test, data.classes)
    coco = np.mean([precisions(test, data.test, data.classes, least) for least in np.linspace(0.5, 0.95, 10)])
    counts = counted(test, data.test, data.classes, thresholds)
    found = {"map_50": float(np.nanmean(each)), "map_50_95": float(coco)}
    found |= {f"ap_50/{name}": float(value) for name, value in zip(data.classes, each, strict=True)}
    found |= {f"counted/{name}": float(value) for name, value in zip(data.classes, counts, strict=True)}
    return found, history, (test, thresholds)


def main(
    data: Literal["scattered_digits", "bccd"] = "scattered_digits",
    widths: tuple[int, ...] | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    shift: int | None = None,
    learning_rate: float | None = None,
    seeds: int = 1,
    seed: int = 0,
    out: Path = Path("runs/detection"),
) -> None:
    """Trains a CenterNet to find objects and tell them apart; average precision, counts, pictures.

    Args:
        data: Digits scattered over a canvas, or blood cells (BCCD), which must be downloaded by hand.
        widths: Channels of each level of the network's body; multiples of 8.
        steps: Training steps; a multiple of 10.
        batch_size: Images in a step.
        shift: By how many pixels a training image is moved at most.
        learning_rate: Peak of the schedule.
        seeds: Runs, one after another.
        seed: The first one's number, from which its random keys come.
        out: The run folder. The same command goes on with an interrupted run.
    """
    options = given(widths=widths, steps=steps, batch_size=batch_size, shift=shift, learning_rate=learning_rate)
    recipe = dataclasses.replace(RECIPES[data], **options)
    at_least_one(widths=recipe.widths, batch_size=recipe.batch_size, seeds=seeds)
    more_than_zero(learning_rate=recipe.learning_rate)
    not_negative(shift=recipe.shift)
    if recipe.steps < PARTS or recipe.steps % PARTS:
        raise SystemExit(f"--steps {recipe.steps}: give a multiple of {PARTS}, after each tenth of which is evaluated")
    if any(width < 8 or width % 8 for width in recipe.widths):
        raise SystemExit(f"--widths {' '.join(map(str, recipe.widths))}: give multiples of 8, the groups of the norms")
    dataset = jann.data.load(data)
    coarsest = STRIDE * 2 ** (len(recipe.widths) - 1)
    height, width, channels = dataset.train["image"].shape[1:]
    if height % coarsest or width % coarsest:
        raise SystemExit(f"--widths {len(recipe.widths)} of them: images of {height} × {width} do not halve so often")
    model = CenterNet(channels, len(dataset.classes), recipe.widths)
    folder = jann.open_run(out, {"data": data, "seeds": seeds, "seed": seed, **dataclasses.asdict(recipe)})
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")
    runs = each_seed(folder, seeds, seed, lambda at, number: train_one(at, dataset, model, recipe, number))
    results, histories, found = zip(*runs, strict=True)
    row = {"data": data, "parameters": jann.count(model),
           **{name: over_seeds([result[name] for result in results]) for name in results[0]},
           "published": PUBLISHED.get(data, "")}  # fmt: skip
    write_results(folder, [row])
    figures(folder, dataset, *found[-1], histories)
    show_table([{"result": name, "": value} for name, value in row.items()], f"{data}: {seeds} seeds")
    print(f"wrote {folder}; jann.load({str(folder / f'seed-{seed}')!r}) gives the first model back")


def figures(folder: Path, data: Boxes, found: Any, thresholds: np.ndarray, histories: list) -> None:
    """Learning curves, precision over recall of each class, and the first test images with boxes."""
    shown, kept = data.test["image"][:6], [score > thresholds[label] for label, score in zip(*found[1:], strict=True)]
    true = [box[label >= 0] for box, label in zip(data.test["box"], data.test["label"], strict=True)]
    at, series = np.linspace(0, 1, 101), {}
    for k, name in enumerate(data.classes):
        _, precision, recall = precision_and_recall(*of_class(found, data.test, k))
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        series[name] = np.array([highest[recall >= level].max(initial=0.0) for level in at])
    save_figures(
        folder,
        loss=metric_curves(
            histories, {"train (changed)": "loss", "validation": "validation_loss"}, ylabel="loss of an image",
            log_y=True,
        ),
        precision=jann.plots.curves(
            series, x=at, xlabel="recall", ylabel="precision, at that recall or more",
            title="Test images, overlap of 0.5",
        ),
        found=jann.plots.boxes(
            shown, [box[keep] for box, keep in zip(found.box[:6], kept, strict=False)],
            [label[keep] for label, keep in zip(found.label[:6], kept, strict=False)], data.classes, true[:6],
        ),
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
