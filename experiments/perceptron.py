"""What one neuron can do, and what it cannot: the perceptron rule, a sigmoid neuron and an MLP on two small problems.

    python -m experiments.perceptron

Two clouds that a line separates: all three learn them, the perceptron with no more mistakes than Novikoff's bound.
XOR: no line separates it, so the first two fail (Minsky and Papert 1969), and a hidden layer is what it takes. The
points are synthetic: they are the problems of the literature, not a data set.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from experiments.reporting import (
    at_least_one,
    command,
    over_seeds,
    save_figures,
    show_table,
    write_metrics,
    write_results,
)
from jann.models.perceptron import perceptron_epoch


def separable(key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """key -> points[n, 2] in two clouds and their labels [n], with a gap of at least 0.4 along the diagonal."""
    points = jax.random.uniform(key, (n, 2), minval=-1, maxval=1)
    along = points.sum(-1) / jnp.sqrt(2)
    push = jnp.where(along > 0, 0.2, -0.2) / jnp.sqrt(2)
    return points + push[:, None], (along > 0).astype(jnp.float32)


def xor(key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """key -> points[n, 2], n / 4 around each corner of a square, and whether the corner's signs differ [n]."""
    corners = jax.random.permutation(jax.random.fold_in(key, 0), jnp.arange(n) % 4)
    signs = 2.0 * jnp.stack([corners // 2, corners % 2], -1) - 1
    # Cut off at 2 deviations: so, whichever point one takes of each corner, no line has all four right.
    noise = jax.random.truncated_normal(jax.random.fold_in(key, 1), -2.0, 2.0, (n, 2))
    return signs + 0.25 * noise, (signs[:, 0] * signs[:, 1] < 0).astype(jnp.float32)


def learn_by_rule(key, x, y, epochs):
    """Rosenblatt's rule -> (parameters, {"wrong": points after each epoch, "mistakes": during it, each [epochs]})"""
    model = jann.models.Perceptron(inputs=2)

    def epoch(params, _):
        params, mistakes = perceptron_epoch(params, x, y)
        return params, {"wrong": wrong_points(model(params, x), y), "mistakes": mistakes}

    return jax.lax.scan(epoch, model.init(key), length=epochs)


def learn_by_gradient(model, key, x, y, epochs):
    """Full-batch Adam on the cross-entropy of probabilities model(params, x) -> as `learn_by_rule`, no mistakes"""

    def loss(params, batch, key, extra=None):
        p = jnp.clip(model(params, x).reshape(-1), 1e-6, 1 - 1e-6)
        value = -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).mean()
        return value, ({"wrong": wrong_points(p, y)}, extra)

    optimizer = optax.adam(0.1)
    state = jann.TrainState.start(key, model.init(key), optimizer)
    state, history = jann.train(jann.make_step(loss, optimizer), lambda step: step, state, epochs)
    last = wrong_points(model(state.params, x), y)  # a step counts before it moves the parameters
    return state.params, {"wrong": jnp.append(history["wrong"][1:], last)}


def wrong_points(p: jax.Array, y: jax.Array) -> jax.Array:
    return ((p > 0.5) != (y > 0.5)).sum()


class Probability(jann.Model):
    """An MLP with one output, as a probability."""

    mlp: jann.models.MLP

    def spec(self):
        return self.mlp.spec()

    def apply(self, params, x, state=None, key=None):
        """x[..., inputs] -> [...]"""
        return jax.nn.sigmoid(self.mlp(params, x, key=key)[..., 0]), state


def novikoff(x: np.ndarray, y: np.ndarray) -> float:
    """(R / margin)² for the best separating plane known here, the diagonal: no more mistakes than this are made."""
    extended = np.concatenate([x, np.ones((len(x), 1))], 1)
    plane = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    margin = ((2 * y - 1) * (extended @ plane)).min()
    return float((np.linalg.norm(extended, axis=1).max() / margin) ** 2)


def main(
    points: int = 200,
    epochs: int = 200,
    hidden: int = 8,
    seeds: int = 8,
    seed: int = 0,
    out: Path = Path("runs/perceptron"),
) -> None:
    """Trains a perceptron, a sigmoid neuron and an MLP on separable points and on XOR; draws what they decide.

    Args:
        points: Points in each problem, a multiple of 4: as many around each corner.
        epochs: Passes over them.
        hidden: Hidden neurons of the MLP.
        seeds: Draws of points and starts.
        seed: The number from which all random keys come.
        out: The run folder.
    """
    at_least_one(points=points, epochs=epochs, hidden=hidden, seeds=seeds)
    if points % 4:
        raise SystemExit(f"--points {points}: give a multiple of 4, as many for each corner of XOR")
    folder = jann.open_run(out, {name: value for name, value in locals().items() if name != "out"})
    perceptron, neuron = jann.models.Perceptron(inputs=2), jann.models.Neuron(inputs=2)
    mlp = Probability(jann.models.MLP(inputs=2, hidden=(hidden,), outputs=1, activation=jnp.tanh))
    learners = {
        "perceptron rule": (perceptron, learn_by_rule),
        "sigmoid neuron": (neuron, partial(learn_by_gradient, neuron)),
        f"MLP, {hidden} hidden": (mlp, partial(learn_by_gradient, mlp)),
    }
    published = {"separable": "1", "xor": {"perceptron rule": "≤ 0.75", "sigmoid neuron": "≤ 0.75"}}
    rows, metrics, figures = [], [], {}
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(seeds))
    for problem, draw in (("separable", separable), ("xor", xor)):
        x, y = jax.vmap(lambda key, draw=draw: draw(key, points))(keys)
        wrong_by = {}
        for name, (model, learn) in learners.items():
            params, counts = jax.jit(jax.vmap(partial(learn, epochs=epochs)))(keys, x, y)
            accuracy = ((jax.vmap(model)(params, x) > 0.5) == (y > 0.5)).mean(-1)
            row = {"problem": problem, "model": name, "accuracy": over_seeds(accuracy)}
            if name == "perceptron rule":
                bound = max(novikoff(np.asarray(a), np.asarray(b)) for a, b in zip(x, y, strict=True))
                row["mistakes"] = over_seeds(counts["mistakes"].sum(-1))
                row["bound"] = f"{bound:.0f}" if problem == "separable" else "none"
            expected = published[problem]
            row["published"] = expected if isinstance(expected, str) else expected.get(name, "1")
            rows.append({"mistakes": "", "bound": "", **row})
            wrong_by[name] = np.asarray(counts["wrong"]) / points
            metrics += [
                {"problem": problem, "model": name, "seed": s, "epoch": e + 1,
                 **{what: int(count[s, e]) for what, count in counts.items()}}
                for s in range(seeds) for e in range(epochs)
            ]  # fmt: skip
            first = jax.tree.map(lambda leaf: leaf[0], params)
            figures[f"{problem}-{name.split()[0].rstrip(',').lower()}"] = jann.plots.decision_boundary(
                partial(jax.jit(model), first), np.asarray(x[0]), np.asarray(y[0], int),
                title=f"{problem}: {name}, {float(accuracy[0]):.1%} right",
            )  # fmt: skip
        figures[f"{problem}-curves"] = jann.plots.curves(
            wrong_by, x=np.arange(1, epochs + 1), xlabel="epoch", ylabel="share of wrong points", title=problem
        )
    write_results(folder, rows)
    write_metrics(folder, metrics)
    save_figures(folder, **figures)
    columns = ("problem", "model", "accuracy", "mistakes", "bound", "published")
    title = f"Mean ± 95 % interval over {seeds} seeds; bound: Novikoff 1962; published: Minsky and Papert 1969"
    show_table([{name: row[name] for name in columns} for row in rows], title)
    print(f"wrote {folder}")


if __name__ == "__main__":
    command(main)
