"""Polyphonic music: a recurrent network foretells which keys sound next, and plays on.

    python -m experiments.music                         # made-up canons, no download
    python -m experiments.music --data jsb_chorales

The loss is that of Bai, Kolter and Koltun 2018, arXiv:1803.01271: from the frames up to t, 88 independent on-or-off
outputs for frame t + 1; their negative log-likelihoods in nats summed over the 88 keys, and averaged over all foretold
frames of all pieces alike (not piece by piece). A piece's first frame is given, not foretold. Published so for the test
chorales: GRU 8.43, LSTM 8.45, RNN 8.91, TCN 8.10.
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
    below_one,
    command,
    each_seed,
    metric_curves,
    more_than_zero,
    not_negative,
    save_figures,
)
from experiments.sequence_training import adamw, report
from jann.models import GRU, LSTM, RNN, Dropout, Linear, chain
from jann.training import Checkpoints

PUBLISHED = {"jsb_chorales": "GRU 8.43, LSTM 8.45, RNN 8.91, TCN 8.10 (Bai et al. 2018)"}
BEST = ("validation_nll", "min")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: see `main`."""

    epochs: int
    batch_size: int = 8
    learning_rate: float = 5e-3
    weight_decay: float = 0.01


def measure(params: Any, batch: dict, key: jax.Array | None = None, *, model: jann.Model) -> dict:
    """roll[batch, time, 88], length[batch] -> {"nll": (sums over a piece's foretold frames, how many), each [batch]}"""
    roll = batch["roll"].astype(jnp.float32)
    logits = model(params, roll[:, :-1], key=key)
    nll = optax.sigmoid_binary_cross_entropy(logits, roll[:, 1:]).sum(-1)
    foretold = jnp.arange(1, roll.shape[1])[None, :] < batch["length"][:, None]
    return {"nll": ((nll * foretold).sum(-1), foretold.sum(-1).astype(jnp.float32))}


def next_frame(params: Any, batch: dict, key: jax.Array, extra: Any, model: jann.Model) -> tuple:
    """The loss of `make_step`: the mean over all foretold frames of the batch."""
    sums, frames = measure(params, batch, key, model=model)["nll"]
    return sums.sum() / frames.sum(), ({}, extra)


def train_one(folder: Path, dataset: Any, model: jann.Model, recipe: Recipe, seed: int) -> tuple[float, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (test loss, history, parameters).

    The parameters are those of the checkpoint with the best validation loss.
    """
    key = jax.random.key(seed)
    batches = jann.data.batches(dataset.train, recipe.batch_size, jax.random.fold_in(key, 1))
    steps = recipe.epochs * batches.steps_per_epoch
    optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay, steps)
    evaluate = partial(jann.evaluate, partial(measure, model=model), size=100)

    def validate(train_state):
        return {BEST[0]: evaluate(jann.eval_params(train_state), dataset.validation)["nll"]}

    train_state, history = jann.fit(
        jann.make_step(partial(next_frame, model=model), optimizer, average=0.98),
        batches, jann.start(model, optimizer, key, average_weights=True), steps,
        every=2 * batches.steps_per_epoch, evaluate=validate, folder=folder, model=model, best=BEST,
    )  # fmt: skip
    if int(train_state.step) < steps:
        raise KeyboardInterrupt
    with Checkpoints(folder, best=BEST, read_only=True) as checkpoints:
        params = jann.eval_params(checkpoints.restore(train_state, checkpoints.best_step()))
    jann.save(folder, model, params)
    return float(evaluate(params, dataset.test)["nll"]), history, params


@partial(jax.jit, static_argnums=(0, 3))
def play(model: jann.Model, params: Any, prompt: jax.Array, n: int, key: jax.Array, temperature: float) -> jax.Array:
    """prompt[time, 88] -> n frames that the model plays after it, [n, 88] of 0 and 1, one compiled scan."""
    logits, state = model.apply(params, prompt)

    def frame(carry, key):
        logits, state = carry
        drawn = jax.random.bernoulli(key, jax.nn.sigmoid(logits / temperature)).astype(jnp.float32)
        logits, state = model.apply(params, drawn[None], state=state)
        return (logits[0], state), drawn

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n))
    return jax.lax.scan(frame, (logits[-1], state), keys)[1]


def perform(folder: Path, dataset: Any, model: jann.Model, params: Any, key: jax.Array) -> None:
    """Plays on from the first 8 steps of a test piece: `sample.mid`, `sample.wav`, a picture of both."""
    given, length = 8, int(dataset.test["length"][0])
    piece = dataset.test["roll"][0, :length].astype(np.float32)
    drawn = play(model, params, piece[:given], 64 - given, key, 0.8)
    roll = np.concatenate([piece[:given], drawn]).astype(np.uint8)
    jann.data.write_midi(folder / "sample.mid", roll, dataset.steps_per_second)
    jann.data.write_wav(folder / "sample.wav", jann.data.synthesise(roll, dataset.steps_per_second), 16_000)
    foretold = np.concatenate([piece[:1], jax.nn.sigmoid(model(params, piece[:-1]))])
    played = f"played on from its first {given} steps"
    rolls = {
        f"a test piece of {dataset.name}": piece,
        "what is foretold for each step of it (probability)": foretold,
        played: roll,
    }
    save_figures(folder, sample=jann.plots.piano_rolls(rolls, 1 / dataset.steps_per_second, {played: given}))


def run(out: Path, dataset: Any, model: jann.Model, recipe: Recipe, seeds: int, seed: int) -> None:
    """Trains `seeds` models, each in a folder of its own in `out`; reports on all of them, and plays."""
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": dataset.name})
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")
    results = each_seed(folder, seeds, seed, lambda at, number: train_one(at, dataset, model, recipe, number))
    losses, histories, params = zip(*results, strict=True)
    metrics = {"train (dropout)": "loss", "validation": "validation_nll"}
    drawn = metric_curves(histories, metrics, ylabel="nats a frame", title=dataset.name, log_y=True)
    save_figures(folder, loss=drawn)
    perform(folder, dataset, model, params[0], jax.random.key(seed))
    row = {"dataset": dataset.name, "model": repr(model), "parameters": jann.count(model)}
    report(folder, f"{dataset.name}: {model!r}", row, {"test_nll": losses}, PUBLISHED.get(dataset.name, "none"))


def main(
    data: Literal["synthetic_canons", "jsb_chorales"] = "synthetic_canons",
    cell: Literal["lstm", "gru", "rnn"] = "lstm",
    hidden: int = 256,
    layers: int = 1,
    dropout: float = 0.4,
    epochs: int = 80,
    batch_size: int = 8,
    learning_rate: float = 5e-3,
    weight_decay: float = 0.01,
    seeds: int = 3,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a recurrent network on piano rolls and lets it play.

    Args:
        data: Made-up canons, which need no download, or Bach's chorales.
        cell: The recurrent cell.
        hidden: Features of its carry.
        layers: Cells on top of each other.
        dropout: Rate between layers and before the outputs; a quarter of it on the keys that come in.
        epochs: Passes over the training pieces; of them the one that is best on the validation pieces is taken.
        batch_size: Pieces in a step.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/music-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(epochs=epochs, batch_size=batch_size, seeds=seeds)
    at_least_one(hidden=hidden, layers=layers)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    below_one(dropout=dropout)
    dataset = jann.data.load(data)
    network = {"lstm": LSTM, "gru": GRU, "rnn": RNN}[cell](88, hidden, layers, dropout=dropout)
    model = chain(Dropout(dropout / 4), network, Dropout(dropout), Linear(hidden, 88))
    recipe = Recipe(epochs, batch_size, learning_rate, weight_decay)
    run(out or Path(f"runs/music-{data}"), dataset, model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
