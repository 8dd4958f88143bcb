"""Identification: some photographs of each person are known, and the others are to be named (see faces.py)."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jann
from experiments.eigenfaces import chosen, without_labels
from experiments.face_training import Settings, curve_rows, evaluate_in_parts, moved, network, refuse_diverged, trained
from experiments.reporting import interrupted, over_seeds


def labelled(images: jax.Array) -> dict:
    """images[people, photographs, ...] -> {"image": [n, ...], "label": whose they are, [n]}"""
    people, photographs = images.shape[:2]
    label = np.repeat(np.arange(people, dtype=np.int32), photographs)
    return {"image": images.reshape(-1, *images.shape[2:]), "label": label}


def experiment(
    key: jax.Array, learning_rate: jax.Array, model: jann.Model, images: np.ndarray, known: int, settings: Settings
) -> dict:
    """One draw of `known` photographs a person, images[people, photographs, ...]: accuracy, order, curves, parameters

    Of the known ones the last is first held out, to choose the learning rate by: "validation_accuracy" is on it of a
    network that learnt from the others. Then another learns from all, "test_accuracy" on those that are not known.
    """
    folded = partial(jann.fold, key)
    order = jnp.argsort(jax.random.uniform(folded("draw"), images.shape[:2]), -1)
    photographs = jnp.take_along_axis(jnp.asarray(images), order[..., None, None, None], 1)

    def learnt(learn, then, name):
        size = min(settings.batch_size, learn.shape[0] * learn.shape[1])
        transform = partial(moved, shift=settings.shift)
        batches = jann.data.batches(labelled(learn), size, folded(f"batches {name}"), transform)
        loss = jann.objective(model)
        params, curves = trained(model, loss, batches, learning_rate, settings, folded(name))
        logits = evaluate_in_parts(model, params, then)
        right = logits.argmax(-1) == jnp.arange(len(images))[:, None]
        return params, curves, right.mean()

    _, _, validated = learnt(photographs[:, : known - 1], photographs[:, known - 1 : known], "validation")
    params, curves, tested = learnt(photographs[:, :known], photographs[:, known:], "test")
    return {
        "validation_accuracy": validated,
        "test_accuracy": tested,
        "order": order,
        "curves": curves,
        "params": params,
    }


def named_right(embed, similarity, learn: np.ndarray, then: np.ndarray) -> float:
    """The share of then[people, m, ...] whose most similar one in learn[people, n, ...] is of the same person"""
    nearest = similarity(embed(then), embed(learn)).argmax(1)
    return float((nearest // learn.shape[1] == np.arange(len(nearest)) // then.shape[1]).mean())


def baselines(images: np.ndarray, orders: np.ndarray, known: int) -> list[dict]:
    """The nearest photograph of the same draws, orders[seeds, people, photographs] -> a row for each way"""
    validated, tested = {}, {}
    for order in orders:
        photographs = np.take_along_axis(images, order[..., None, None, None], 1)
        for results, count, until in ((validated, known - 1, known), (tested, known, images.shape[1])):
            learn, then = photographs[:, :count], photographs[:, count:until]
            for name, (embed, similarity) in without_labels(learn).items():
                results.setdefault(name, []).append(named_right(embed, similarity, learn, then))
    return [
        {"method": f"{way}, nearest", "chosen": "" if count is None else f"{count} components",
         "test_error_percent": error_percent(tested[way, count])}
        for way, count in chosen(validated).items()
    ]  # fmt: skip


def error_percent(accuracy) -> dict:
    return over_seeds(100 * (1 - np.asarray(accuracy, float)))


def run(
    folder: Path, images: np.ndarray, known: int, rates: tuple[float, ...], dropout: float, settings: Settings,
    seeds: int, key: jax.Array,
) -> tuple[list[dict], list[dict], dict]:  # fmt: skip
    """Sweeps draws × learning rates; -> (rows of results, lines of metrics, curves by learning rate)"""
    model = network(images.shape[2], len(images), dropout)
    print(f"identification of {len(images)} people by {known} photographs of each\n{jann.summary(model)}\n")
    program = partial(experiment, model=model, images=images, known=known, settings=settings)
    at = folder / "sweeps" / "identification"
    swept = jann.sweep(program, seeds=seeds, key=key, folder=at, chunk=1, learning_rate=list(rates))
    if not swept.complete:
        interrupted(folder)
    best = swept.best("validation_accuracy")
    results = [swept.results(i) for i in range(len(rates))]
    refuse_diverged(results[best]["params"], f"identification with learning rate {rates[best]:g}", "--learning-rates")
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), results[best]["params"])
    jann.save(folder / "identification", model, first)
    rows = [*baselines(images, results[best]["order"], known), {
        "method": "convolutional network", "chosen": f"learning rate {rates[best]:g}",
        "test_error_percent": error_percent(results[best]["test_accuracy"]),
    }]  # fmt: skip
    metrics = [
        line
        for rate, result in zip(rates, results, strict=True)
        for line in curve_rows(result["curves"], settings, task="identification", learning_rate=rate)
    ]
    curves = {f"learning rate {rate:g}": result["curves"]["train_loss"]
              for rate, result in zip(rates, results, strict=True)}  # fmt: skip
    return [{"task": "identification", **row} for row in rows], metrics, curves
