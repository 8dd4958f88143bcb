"""Transfer learning: what a network that was trained on other images is worth where examples are few.

    python -m experiments.transfer_images                     # digits 0-4, then 5-9 of scikit-learn: no download
    python -m experiments.transfer_images --data mnist_to_fashion
    python -m experiments.transfer_images --data animals_to_vehicles

A ViT is trained on one set of classes. Then others are learnt from 1, 5, 20, 100 examples of each, in three ways: from
scratch, the last layer alone on the trained body, and all of it from there. To halve the classes of a data set so is
the design of Yosinski et al. 2014 (arXiv:1411.1792); nothing is published at this size. Every seed has a body and
examples of its own, the same for all three ways, so that the gain over scratch is a difference of pairs. Learning rates
and steps are given beforehand, and no choice is made by any test image. All of it is one compiled program.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jann
from experiments.image_classification import Recipe, optimizer_of
from experiments.reporting import (
    at_least_one,
    command,
    interrupted,
    more_than_zero,
    not_negative,
    over_seeds,
    save_figures,
    show_table,
    write_metrics,
    write_results,
)
from experiments.vit_images import for_small
from jann.data import Dataset
from jann.models import ViT

WAYS = ("from scratch", "last layer", "fine-tuned")
ANIMALS, VEHICLES = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9)  # of CIFAR-10


@dataclasses.dataclass(frozen=True)
class Settings:
    """How long and how fast each part is trained: see `main`."""

    pretraining_steps: int
    steps: int
    batch_size: int
    learning_rate: float
    last_rate: float
    weight_decay: float
    shift: int


def classes_of(dataset: Dataset, chosen: tuple[int, ...]) -> Dataset:
    """The images of some classes, which are numbered anew from 0 in that order; standardised as the whole was."""

    def part(split):
        rows = np.isin(split["label"], chosen)
        labels = np.array([chosen.index(label) for label in split["label"][rows]], np.int32)
        return {"image": split["image"][rows], "label": labels}

    splits = {name: part(getattr(dataset, name)) for name in ("train", "validation", "test")}
    return dataclasses.replace(dataset, **splits, classes=tuple(dataset.classes[number] for number in chosen))


def tasks_of(data: str) -> tuple[Dataset, Dataset, ViT]:
    """-> what is pre-trained on, what is transferred to, and a model of the former"""
    if data == "digits":
        whole = jann.data.load("digits")
        return classes_of(whole, (0, 1, 2, 3, 4)), classes_of(whole, (5, 6, 7, 8, 9)), ViT(
            8, 2, 1, embed=48, layers=3, heads=4, hidden=96, outputs=5
        )  # fmt: skip
    if data.startswith("animals") or data.startswith("vehicles"):
        whole = jann.data.load("cifar10_subset")
        sides = classes_of(whole, ANIMALS), classes_of(whole, VEHICLES)
        source, target = sides if data.startswith("animals") else sides[::-1]
        return source, target, ViT(32, 8, 3, embed=96, layers=4, heads=4, hidden=192, outputs=len(source.classes))
    names = ("mnist", "fashion_mnist") if data == "mnist_to_fashion" else ("fashion_mnist", "mnist")
    source, target = map(jann.data.load, names)
    return source, target, ViT(28, 7, 1, embed=96, layers=4, heads=4, hidden=192, outputs=10)


def by_class(labels: np.ndarray, classes: int) -> np.ndarray:
    """labels[n] -> rows[classes, least]: as many of each class as the rarest has"""
    rows = [np.flatnonzero(labels == number) for number in range(classes)]
    least = min(map(len, rows))
    return np.stack([found[:least] for found in rows])


def few(split: dict, rows: jax.Array, size: int, prepare: Callable, key: jax.Array, step: jax.Array, count: Any):
    """A batch of `size`, any class with equal chance and any of its first `count` examples, rows[classes, least]"""
    key = jax.random.fold_in(key, step)
    label = jax.random.randint(jax.random.fold_in(key, 0), (size,), 0, len(rows))
    which = rows[label, jax.random.randint(jax.random.fold_in(key, 1), (size,), 0, count)]
    return prepare({"image": split["image"][which], "label": label}, jax.random.fold_in(key, 2))


def moved(standardise: Callable, shift: int, batch: dict, key: jax.Array) -> dict:
    return standardise({**batch, "image": jann.data.random_crop(batch["image"], key, shift)})


def trained(
    model: ViT, params: Any, chosen: str, rate: float, batches: Callable, steps: int, settings: Settings, key: jax.Array
) -> Any:
    """Parameters after so many steps, of which only those whose path matches `chosen` changed"""
    if steps == 0:  # of which there is no schedule
        return params
    recipe = Recipe(1, learning_rate=rate, weight_decay=settings.weight_decay)
    optimizer = optimizer_of(recipe, model, steps)
    train, rest = jann.partition(params, chosen)
    step = jann.make_step(jann.adapt.frozen(jann.objective(model), rest), optimizer)
    train_state, _ = jann.train(step, batches, jann.TrainState.start(key, train, optimizer), steps)
    return jann.combine(rest, train_state.params)


def experiment(
    key: jax.Array, model: ViT, source: Dataset, target: Dataset, counts: tuple[int, ...], settings: Settings
) -> dict:
    """One seed: -> {"source_accuracy": the body's, "accuracy": {way: [counts]} of the others, "body"}

    Both on test images.
    """
    folded = partial(jann.fold, key)
    split = {name: jnp.asarray(values) for name, values in source.train.items()}
    rows = jnp.asarray(by_class(source.train["label"], len(source.classes)))
    prepare = partial(moved, source.standardise, settings.shift)
    batches = partial(few, split, rows, settings.batch_size, prepare, folded("source"), count=rows.shape[1])
    start = for_small(model.init(folded("body")))
    body = trained(
        model, start, "", settings.learning_rate, batches, settings.pretraining_steps, settings, folded("first")
    )

    new = dataclasses.replace(model, outputs=len(target.classes))
    without_head, _ = jann.partition(body, "^(?!head/)")
    transplanted = jann.adapt.transplant(new, folded("head"), without_head).params
    fresh = for_small(new.init(folded("scratch")))
    split = {name: jnp.asarray(values) for name, values in target.train.items()}
    rows = jnp.asarray(by_class(target.train["label"], len(target.classes)))
    # Every seed has examples of its own, the fewer among the more.
    rows = jax.vmap(jax.random.permutation)(jann.depth_keys(folded("examples"), len(rows)), rows)
    prepare = partial(moved, target.standardise, settings.shift)

    def accuracy(model, params, dataset):
        return jann.evaluate(jann.measure(model), params, dataset.test, 500, dataset.standardise)["accuracy"]

    def learnt(way, count):
        begin, chosen = (fresh if way == "from scratch" else transplanted), ("^head/" if way == "last layer" else "")
        rate = settings.last_rate if way == "last layer" else settings.learning_rate
        batches = partial(few, split, rows, settings.batch_size, prepare, folded("target"), count=count)
        params = trained(new, begin, chosen, rate, batches, settings.steps, settings, folded("then"))
        return accuracy(new, params, target)

    # The number of examples is data of the program, so that it is compiled once for all of them.
    ways = {way: jax.lax.map(partial(learnt, way), jnp.array(counts)) for way in WAYS}
    return {"source_accuracy": accuracy(model, body, source), "accuracy": ways, "body": body}


def rows_of(accuracy: dict[str, np.ndarray], counts: tuple[int, ...]) -> list[dict]:
    """accuracy[way][seeds, counts] -> a row for each way and count, with the gain over scratch of the same seed"""
    return [
        {
            "way": way,
            "examples_a_class": count,
            "test_accuracy": over_seeds(values[:, i]),
            "gain_over_scratch": over_seeds(values[:, i] - accuracy["from scratch"][:, i]),
        }
        for i, count in enumerate(counts)
        for way, values in accuracy.items()
    ]


def run(
    out: Path, data: str, tasks: tuple[Dataset, Dataset, ViT], counts: tuple[int, ...], settings: Settings,
    seeds: int, seed: int,
) -> None:  # fmt: skip
    """Runs `seeds` of them, two or more at once where there are as many devices; reports on all."""
    source, target, model = tasks
    least = by_class(target.train["label"], len(target.classes)).shape[1]
    if not all(1 <= count <= least for count in counts):
        raise SystemExit(f"--counts {counts}: from 1 to {least}, as many as there are of each class of {target.name}")
    config = {"data": data, "model": jann.to_json(model), "counts": counts, **dataclasses.asdict(settings)}
    folder = jann.open_run(out, {**config, "seeds": seeds, "seed": seed})
    print(f"{source}\n-> {target}\n\n{jann.summary(model)}\n")
    program = partial(experiment, model=model, source=source, target=target, counts=counts, settings=settings)
    swept = jann.sweep(program, seeds=seeds, key=jax.random.key(seed), folder=folder / "sweep", chunk=1, form="map")
    if not swept.complete:
        interrupted(folder)
    results = swept.results(0)
    jann.save(folder, model, jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), results["body"]))
    accuracy = {way: results["accuracy"][way] for way in WAYS}
    rows = rows_of(accuracy, counts)
    of_source = over_seeds(results["source_accuracy"])
    common = {"data": data, "model": repr(model), "source_accuracy": of_source, "published": "none at this size"}
    write_results(folder, [{**row, **common} for row in rows])
    write_metrics(folder, [
        {"way": way, "examples_a_class": count, "seed": number, "test_accuracy": float(values[number, i])}
        for way, values in accuracy.items() for i, count in enumerate(counts) for number in range(seeds)
    ])  # fmt: skip
    save_figures(folder, accuracy=accuracy_figure(accuracy, counts, data), classes=classes_figure(source, target))
    show_table(rows, f"{data}: mean ± 95 % interval over {seeds} seeds")
    print(f"the body on test images of its own classes: {of_source['mean']:.4f}")
    print(f"wrote {folder}; jann.load({str(folder)!r}) gives the first body back")


def accuracy_figure(accuracy: dict[str, np.ndarray], counts: tuple[int, ...], title: str):
    """Test accuracy over the number of examples, which stands at equal ratios"""
    figure = jann.plots.curves(
        accuracy, x=np.array(counts), xlabel="examples of each class", ylabel="test accuracy", title=title
    )
    (axes,) = figure.axes
    axes.set_xscale("log")
    axes.set_xticks(counts, map(str, counts))
    axes.minorticks_off()
    return figure


def classes_figure(source: Dataset, target: Dataset):
    """An image of each class that was trained on first, then of each that was transferred to"""
    pictures, captions = [], []
    for name, dataset in (("first", source), ("then", target)):
        for number, label in enumerate(dataset.classes):
            pictures.append(dataset.train["image"][dataset.train["label"] == number][0] / dataset.scale)
            captions.append(f"{name}: {label}")
    return jann.plots.images(np.stack(pictures), captions, columns=len(source.classes))


def main(
    data: Literal[
        "digits", "mnist_to_fashion", "fashion_to_mnist", "animals_to_vehicles", "vehicles_to_animals"
    ] = "digits",
    counts: tuple[int, ...] | None = None,
    pretraining_steps: int | None = None,
    steps: int = 400,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    last_rate: float = 1e-2,
    weight_decay: float = 0.05,
    shift: int = 1,
    seeds: int = 5,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Pre-trains on some classes and learns others from few examples: from scratch, the last layer, or all.

    Args:
        data: What is trained on first, and then: digits need no download; the others are found through JANN_DATA.
        counts: Examples of each new class, each tried with every seed; by default 1 5 20 100.
        pretraining_steps: Steps on the first classes; 0 leaves the body as it was drawn.
        steps: Steps on the others, for each way and count.
        batch_size: Images in a step.
        learning_rate: Peak of the warm-up and cosine schedule (AdamW), of pre-training, from scratch and of all.
        last_rate: The same where only the last layer is trained.
        weight_decay: Decay of the kernels.
        shift: By how many pixels a training image may be moved.
        seeds: How many times all of it is done.
        seed: The number from which all random keys come.
        out: The run folder, by default runs/transfer_images-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(counts=counts, steps=steps, batch_size=batch_size, seeds=seeds)
    at_least_one(counts=counts and min(counts))
    more_than_zero(learning_rate=learning_rate, last_rate=last_rate)
    not_negative(weight_decay=weight_decay, shift=shift)
    if pretraining_steps is None:
        pretraining_steps = 1000 if data == "digits" else 3000
    if pretraining_steps < 0:
        raise SystemExit(f"--pretraining-steps {pretraining_steps}: give 0, which trains nothing first, or more")
    jann.cpu_devices()
    tasks = tasks_of(data)
    counts = (1, 5, 20, 100) if counts is None else counts
    settings = Settings(pretraining_steps, steps, batch_size, learning_rate, last_rate, weight_decay, shift)
    run(out or Path(f"runs/transfer_images-{data}"), data, tasks, counts, settings, seeds, seed)


if __name__ == "__main__":
    command(main)
