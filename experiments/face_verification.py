"""Verification: whether two photographs are of one person, of people who were never seen in training (see faces.py)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jann
from experiments.eigenfaces import by_angle, chosen, without_labels
from experiments.face_training import Settings, curve_rows, evaluate_in_parts, moved, network, refuse_diverged, trained
from experiments.reporting import interrupted, over_seeds
from jann.analysis import verification_scores
from jann.layers import linear, linear_spec
from jann.losses import angular_margin_loss, triplet_loss

EACH = 4  # photographs of a person in a batch
SCORES = ("roc_area", "equal_error_rate", "true_accept_rate", "one_shot_accuracy")


class Embedder(jann.Model):
    """Embeddings of length 1, whose cosines tell how alike two photographs are.

    body:    a model whose outputs are scaled to length 1
    people:  how many are told apart in training, each by a direction of its own (`cosines`); 0 for losses of pairs
    """

    body: jann.Model
    people: int = 0

    def spec(self):
        spec = {"body": self.body.spec()}
        return {**spec, "people": linear_spec(self.body.outputs, self.people, bias=False)} if self.people else spec

    def apply(self, params, x, state=None, key=None):
        """x[..., height, width, inputs] -> (embeddings[..., embed], batch statistics)"""
        x, statistics = self.body.apply(params["body"], x, key=key)
        return unit(x), {"body": statistics}

    def cosines(self, params, embeddings):
        """embeddings[..., embed] -> those of the angles to each person of the training, [..., people]"""
        return linear({"weight": unit(params["people"]["weight"], axis=0)}, embeddings)


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """x / |x|, with a finite gradient at 0"""
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis, keepdims=True) + 1e-12)


def few(images: jax.Array, people: int, shift: int, key: jax.Array, step: jax.Array) -> dict:
    """The batch of a step: `people` of images[all people, photographs, ...], EACH photographs of each"""
    folded = partial(jann.fold, jax.random.fold_in(key, step))
    label = jax.random.permutation(folded("people"), images.shape[0])[:people]
    which = jnp.argsort(jax.random.uniform(folded("photographs"), (people, images.shape[1])), -1)[:, :EACH]
    batch = {"image": images[label[:, None], which].reshape(-1, *images.shape[2:]), "label": jnp.repeat(label, EACH)}
    return moved(batch, folded("moved"), shift)


def metric_loss(model: Embedder, name: str, margin: Any, scale: float) -> Callable:
    """The loss of `make_step`, by name: "angular margin" or "triplet\""""

    def loss(params, batch, key, extra=None):
        embeddings, statistics = model.apply(params, batch["image"], key=key)
        if name == "triplet":
            losses = triplet_loss(embeddings, batch["label"], margin, hardest=False)
        else:
            losses = angular_margin_loss(model.cosines(params, embeddings), batch["label"], margin, scale)
        return losses.mean(), ({}, jann.training.update_statistics(extra, statistics))

    return loss


def pairs_of(people: int, photographs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of people × photographs -> (first[pairs], second[pairs], whether both are of one person[pairs])"""
    first, second = np.triu_indices(people * photographs, 1)
    return first, second, first // photographs == second // photographs


def roc_area(embeddings: jax.Array) -> jax.Array:
    """embeddings[people, photographs, embed] -> area under the ROC curve of their cosines, compiled as the rest is"""
    first, second, same = pairs_of(*embeddings.shape[:2])
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    cosines = (rows[first] * rows[second]).sum(-1)
    alike, different = cosines[np.flatnonzero(same)][:, None], cosines[np.flatnonzero(~same)][None]
    return ((alike > different) + 0.5 * (alike == different)).mean()


def experiment(
    key: jax.Array, margin: jax.Array, loss: str, model: Embedder, images: np.ndarray,
    people: tuple[int, int], learning_rate: float, scale: float, settings: Settings,
) -> dict:  # fmt: skip
    """One draw of the people who are learnt from, validated on and tested on: so many first, so many then, the others

    -> "validation_area", the order, embeddings of the people tested, curves, parameters
    """
    folded = partial(jann.fold, key)
    order = jax.random.permutation(folded("people"), len(images))
    learn, validate, test = parts(jnp.asarray(images)[order], *people)
    batches = partial(few, learn, settings.batch_size // EACH, settings.shift, folded("batches"))

    def look(params):
        return {"validation_area": roc_area(evaluate_in_parts(model, params, validate))}

    of_margin = metric_loss(model, loss, margin, scale)
    params, curves = trained(model, of_margin, batches, learning_rate, settings, folded("model"), look)
    return {
        "validation_area": curves["validation_area"][-1],
        "order": order,
        "embeddings": evaluate_in_parts(model, params, test),
        "curves": curves,
        "params": params,
    }


def parts(people, learn: int, validate: int) -> tuple:
    return people[:learn], people[learn : learn + validate], people[learn + validate :]


def one_shot(similarity: np.ndarray, people: int, photographs: int) -> float:
    """similarity[n, n] -> how often a photograph is nearest to its own person's, where one of each person is known

    Each in turn is the known one, the same number for all; the others are named.
    """
    right = []
    by_number = similarity.reshape(people, photographs, people, photographs)
    for known in range(photographs):
        named = np.delete(by_number[..., known], known, 1).argmax(-1)
        right.append((named == np.arange(people)[:, None]).mean())
    return float(np.mean(right))


def measured(similarity: np.ndarray, people: int, photographs: int, false_accepts: float) -> dict[str, float]:
    """similarity[n, n] of all photographs -> SCORES"""
    first, second, same = pairs_of(people, photographs)
    scores = verification_scores(similarity[first, second], same, false_accepts)
    return {**scores, "one_shot_accuracy": one_shot(similarity, people, photographs)}


def cosines_of(embeddings: np.ndarray) -> np.ndarray:
    """embeddings[people, photographs, embed] -> cosines[n, n]"""
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    return by_angle(rows, rows)


def baselines(images: np.ndarray, orders: np.ndarray, learn: int, validate: int) -> dict[str, tuple[str, list]]:
    """The same draws without learning -> {way: (what was chosen, similarities[n, n] of the people tested a seed)}"""
    areas, similarities = {}, {}
    for order in orders:
        learnt, validated, tested = parts(images[order], learn, validate)
        for name, (embed, similarity) in without_labels(learnt).items():
            rows = embed(validated)
            first, second, same = pairs_of(*validated.shape[:2])
            area = verification_scores(similarity(rows, rows)[first, second], same)["roc_area"]
            areas.setdefault(name, []).append(area)
            rows = embed(tested)
            similarities.setdefault(name, []).append(similarity(rows, rows))
    return {
        way: ("" if count is None else f"{count} components", similarities[way, count])
        for way, count in chosen(areas).items()
    }


def run(
    folder: Path, images: np.ndarray, people: tuple[int, int], embed: int, margins: dict[str, tuple[float, ...]],
    learning_rate: float, scale: float, dropout: float, false_accepts: float, settings: Settings, seeds: int,
    key: jax.Array,
) -> tuple[list[dict], list[dict], dict]:  # fmt: skip
    """Sweeps draws × margins for each loss; -> (rows of results, lines of metrics, what the figures show)

    people:  how many are learnt from, and how many validated on; the others are tested
    """
    learn, validate = people
    body = network(images.shape[2], embed, dropout)
    tested, photographs = len(images) - learn - validate, images.shape[1]
    print(f"verification: {learn} people to learn from, {validate} to validate on, {tested} to test, in each draw")
    print(f"{jann.summary(Embedder(body, learn))}\n")
    metrics, learnt, results = [], {}, {}
    for loss, values in margins.items():
        model = Embedder(body, learn if loss == "angular margin" else 0)
        program = partial(
            experiment, loss=loss, model=model, images=images, people=people, learning_rate=learning_rate, scale=scale,
            settings=settings,
        )  # fmt: skip
        at = folder / "sweeps" / loss.replace(" ", "_")
        swept = jann.sweep(program, seeds=seeds, key=key, folder=at, chunk=1, margin=list(values))
        if not swept.complete:
            interrupted(folder)
        for i, margin in enumerate(values):
            results = swept.results(i)
            metrics += curve_rows(results["curves"], settings, task="verification", loss=loss, margin=margin)
            method = loss if margin or loss == "triplet" else "cosine softmax"
            area = results["validation_area"].mean()
            if method not in learnt or area > learnt[method][0]:
                learnt[method] = area, margin, model, results
    similarities = baselines(images, results["order"], learn, validate)
    for method, (_, margin, model, results) in learnt.items():
        refuse_diverged(results["params"], f"{method} with margin {margin:g}", "--learning-rate")
        similarities[method] = f"margin {margin:g}", [cosines_of(each) for each in results["embeddings"]]
        first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), results["params"])
        jann.save(folder / method.replace(" ", "_"), model, first)
    rows = []
    for method, (choice, of_seeds) in similarities.items():
        scores = [measured(similarity, tested, photographs, false_accepts) for similarity in of_seeds]
        rows.append({"task": "verification", "method": method, "chosen": choice,
                     **{name: over_seeds([score[name] for score in scores]) for name in SCORES}})  # fmt: skip
    best = max(learnt, key=lambda method: learnt[method][0])
    results = learnt[best][-1]
    figures = {
        "curves": {method: found["curves"]["validation_area"] for method, (*_, found) in learnt.items()},
        "similarities": similarities,
        "best": best,
        "embeddings": results["embeddings"][0],
        "people": parts(results["order"][0], learn, validate)[2],
    }
    return rows, metrics, figures
