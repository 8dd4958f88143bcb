"""Ratings of films foretold: biases, matrix factorisation and an autoencoder, by cross-validation.

    python -m experiments.recommendation
    python -m experiments.recommendation --data movielens_100k

Folds × weights of the regulariser are one compiled program a method. For each fold the weight is chosen on a tenth of
its training ratings, held out in a training of its own; then all of them are trained on, and the fold's ratings are
only reported. A run that was interrupted goes on with the same command.
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
    interrupted,
    over_seeds,
    save_figures,
    show_table,
    write_metrics,
    write_results,
)
from jann.data import Ratings

# Root mean squared errors of five random folds, https://surpriselib.com (Hug 2020, JOSS 5(52))
PUBLISHED = {"biases": "0.944", "factors": "0.934 (SVD), 0.92 (SVD++)", "autoencoder": ""}
TENTH, POINTS, FORETOLD = 0.1, 10, 20_000  # held out to choose on; of each curve; ratings at a time


@dataclasses.dataclass(frozen=True)
class Factors:
    """`jann.models.MatrixFactorisation` by Adam on batches of ratings, squares of their factors weighed in."""

    features: int
    weights: tuple[float, ...]  # of the squares
    epochs: int = 30
    batches: int = 100  # an epoch
    learning_rate: float = 0.005

    def model(self, data: Ratings) -> jann.Model:
        return jann.models.MatrixFactorisation(data.users, len(data.titles), self.features)

    def train(self, key, weight, data, trained):
        """trained[n]: 1 for ratings that are trained on -> (params, ratings foretold at each point, [POINTS, n])"""
        model = self.model(data)

        def loss(params, batch, key, extra=None):
            rating, seen = jann.observe(model)(params, batch["user"], batch["item"])
            squares = sum(jnp.square(rows).sum(-1) for rows in seen.values())
            error = jnp.square(rating - batch["rating"]) + weight * squares
            return (error * batch["trained"]).sum() / jnp.maximum(batch["trained"].sum(), 1), ({}, extra)

        size = max(1, len(data.rating) // self.batches)
        batches = jann.data.batches({**data.arrays, "trained": trained}, size, jann.fold(key, "batches"))
        params = {**model.init(key), "mean": (data.rating * trained).sum() / trained.sum()}
        return followed(self, key, loss, params, batches, lambda params: self.foretold(params, data, trained))

    def foretold(self, params, data, trained):
        """-> [n]"""
        return self.model(data)(params, data.user, data.item)


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """An item's ratings by all users, reproduced: I-AutoRec of Sedhain et al. 2015, WWW."""

    weights: tuple[float, ...]  # of the kernels' squares
    code: int = 500
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-3

    def model(self, data: Ratings) -> jann.Model:
        return jann.models.Autoencoder(data.users, (), self.code, code_activation=jax.nn.sigmoid)

    def train(self, key, weight, data, trained):
        model = self.model(data)
        rows, there = self.rows(data, trained)

        def loss(params, batch, key, extra=None):
            error = jnp.square(model(params, batch["row"]) - batch["row"]) * batch["there"]
            squares = sum(jnp.square(leaf).sum() for path, leaf in jann.flatten(params).items() if "weight" in path)
            return error.sum() / len(error) + weight / len(data.titles) / 2 * squares, ({}, extra)

        size = min(self.batch_size, len(data.titles))
        batches = jann.data.batches({"row": rows, "there": there}, size, jann.fold(key, "batches"))
        return followed(
            self, key, loss, model.init(key), batches, lambda params: self.foretold(params, data, trained)
        )

    def rows(self, data, trained):
        """-> deviations of what is trained on from its mean, else 0; and 1 where it is, else 0: [items, users]"""
        mean = (data.rating * trained).sum() / trained.sum()
        empty = jnp.zeros((len(data.titles), data.users))
        rows = empty.at[data.item, data.user].set((data.rating - mean) * trained)
        return rows, empty.at[data.item, data.user].set(trained)

    def foretold(self, params, data, trained):
        mean = (data.rating * trained).sum() / trained.sum()
        return mean + self.model(data)(params, self.rows(data, trained)[0])[data.item, data.user]


def methods_with(features: int) -> dict[str, Any]:
    """The methods with the weights that they choose from."""
    return {
        "biases": Factors(0, (0.005, 0.02, 0.08)),
        "factors": Factors(features, (0.06, 0.09, 0.12, 0.15)),
        "autoencoder": Autoencoder((10.0, 30.0, 100.0, 200.0)),
    }


def followed(method, key, loss, params, batches, foretell):
    """-> (params, what `foretell` says of them at each point [POINTS, n])"""
    n = method.epochs * batches.steps_per_epoch // POINTS
    optimizer = optax.adam(optax.cosine_decay_schedule(method.learning_rate, n * POINTS))
    step = jann.make_step(loss, optimizer)

    def part(state, _):
        state, _ = jann.train(step, batches, state, n)
        return state, foretell(state.params)

    state, foretold = jax.lax.scan(part, jann.TrainState.start(key, params, optimizer), length=POINTS)
    return state.params, foretold


def experiment(key, fold, weight, choosing, method, data, folds):
    """One run -> {"rmse", "curve"[POINTS]} of the fold; where `choosing` is 1, of the tenth held out for that."""
    inside = folds != fold
    tenth = inside & (jax.random.uniform(jann.fold(key, "tenth"), folds.shape) < TENTH)
    trained = inside & ~(tenth & (choosing > 0))
    judged = jnp.where(choosing > 0, tenth, ~inside)
    _, foretold = method.train(key, weight, data, trained.astype(jnp.float32))
    curve = jax.vmap(partial(rmse, data=data, judged=judged))(foretold)
    return {"rmse": curve[-1], "curve": curve}


def rmse(foretold, data, judged):
    """The root of the mean squared error of what is foretold, cut off at what a rating may be, where it is judged"""
    error = jnp.square(jnp.clip(foretold, data.lowest, data.highest) - data.rating)
    return jnp.sqrt((error * judged).sum() / judged.sum())


def main(
    data: Literal["synthetic_ratings", "movielens_100k"] = "synthetic_ratings",
    methods: tuple[Literal["biases", "factors", "autoencoder"], ...] = ("biases", "factors", "autoencoder"),
    features: int = 100,
    folds: int = 5,
    user: int = 0,
    seed: int = 0,
    out: Path = Path("runs/recommendation"),
) -> None:
    """Foretells ratings by biases, matrix factorisation and an autoencoder; cross-validates, and recommends.

    Args:
        data: Synthetic ratings, whose noise is known, or MovieLens 100K, which must be downloaded by hand.
        methods: What to train.
        features: Factors of each user and item.
        folds: Parts of the ratings, each foretold from the others.
        user: Who gets recommendations, from 0.
        seed: The number from which folds and random keys come.
        out: The run folder. The same command goes on with an interrupted run.
    """
    at_least_one(methods=methods, features=features)
    if folds < 2:
        raise SystemExit(f"--folds {folds}: give at least two, so that one can be foretold from the others")
    ratings = jann.data.load(data)
    if not 0 <= user < ratings.users:
        raise SystemExit(f"--user {user}: give from 0 to {ratings.users - 1}")
    jann.cpu_devices()
    print(ratings, end="\n\n")
    chosen = {name: method for name, method in methods_with(features).items() if name in methods}
    folder = jann.open_run(out, {"data": data, "features": features, "folds": folds, "user": user, "seed": seed,
                                 "methods": {name: dataclasses.asdict(m) for name, m in chosen.items()}})  # fmt: skip
    found, key = {}, jax.random.key(seed)
    for name, method in chosen.items():
        print(name)
        run = partial(experiment, method=method, data=ratings, folds=ratings.folds(folds, seed))
        swept = jann.sweep(
            run, seeds=1, key=key, folder=folder / name, fold=[float(i) for i in range(folds)],
            weight=list(method.weights), choosing=[1.0, 0.0],
        )  # fmt: skip
        if not swept.complete:
            interrupted(folder)
        shape = folds, len(method.weights), 2
        results = [swept.results(i) for i in range(len(swept.points))]
        found[name] = {part: np.array([result[part][0] for result in results]).reshape(*shape, *size)
                       for part, size in (("rmse", ()), ("curve", (POINTS,)))}  # fmt: skip
    report(folder, ratings, chosen, found, PUBLISHED if data == "movielens_100k" else {})
    if "factors" in chosen:
        best = int(np.bincount(found["factors"]["rmse"][..., 0].argmin(1)).argmax())
        recommend(folder, ratings, chosen["factors"], chosen["factors"].weights[best], key, user)
    print(f"wrote {folder}")


def report(folder: Path, ratings: Ratings, methods: dict, found: dict, published: dict) -> None:
    """Writes results, metrics and figures, prints the table."""
    rows, lines, curves, by_weight = [], [], {}, {}
    for name, method in methods.items():
        choosing, testing = np.moveaxis(found[name]["rmse"], -1, 0)
        best = choosing.argmin(1)  # of each fold
        at = np.arange(len(best))
        weights = sorted({method.weights[i] for i in best})
        rows.append({"method": name, "weight": ", ".join(f"{weight:g}" for weight in weights),
                     "test_rmse": over_seeds(testing[at, best]), "published": published.get(name, "")})  # fmt: skip
        curves[name] = found[name]["curve"][at, best, 1]
        by_weight[name] = testing
        lines += [{"method": name, "fold": fold, "weight": weight, "validation_rmse": float(choosing[fold, i]),
                   "test_rmse": float(testing[fold, i])}
                  for fold in at.tolist() for i, weight in enumerate(method.weights)]  # fmt: skip
    if ratings.noise is not None:
        rows.append({"method": "what noise allows", "weight": "", "test_rmse": f"{ratings.noise:g}", "published": ""})
    write_results(folder, rows)
    write_metrics(folder, lines)
    show_table(rows, f"{ratings.name}: root mean squared error ± 95 % interval over {len(at)} folds")
    share = np.arange(1, POINTS + 1) / POINTS
    of_weights = {
        f"weights_{name}": jann.plots.curves(
            {name: values}, ylabel="root mean squared error of the fold", xlabel="weight of the squares",
            x=np.array(methods[name].weights), log_x=True,
        )
        for name, values in by_weight.items()
    }  # fmt: skip
    training = jann.plots.curves(curves, ylabel="root mean squared error", xlabel="share of the training", x=share)
    save_figures(folder, training=training, **of_weights)


def recommend(folder: Path, ratings: Ratings, method: Factors, weight: float, key: jax.Array, user: int) -> None:
    """Trains factors on all ratings, saves them, and prints what a user would like, and which items are alike."""
    everything = jnp.ones(len(ratings.rating))
    params, _ = jax.jit(partial(method.train, data=ratings))(key, weight, trained=everything)
    model = method.model(ratings)
    jann.save(folder, model, params)
    known = ratings.item[ratings.user == user]
    likes = np.array(model(params, jnp.full(len(ratings.titles), user), jnp.arange(len(ratings.titles))))
    likes[known] = -np.inf
    own = ratings.rating[ratings.user == user]
    print(f"\nuser {user} rated highest: {', '.join(ratings.titles[i] for i in known[np.argsort(-own)[:5]])}")
    print(f"and would like: {', '.join(f'{ratings.titles[i]} ({likes[i]:.1f})' for i in np.argsort(-likes)[:5])}")
    counts = np.bincount(ratings.item, minlength=len(ratings.titles))
    factors = np.array(params["item_factors"]["table"])
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    for item in np.argsort(-counts)[:5]:
        alike = np.where(counts >= 50, factors @ factors[item], -np.inf)
        near = [ratings.titles[i] for i in np.argsort(-alike)[1:4]]
        print(f"most like {ratings.titles[item]}: {', '.join(near)}")


if __name__ == "__main__":
    command(main)
