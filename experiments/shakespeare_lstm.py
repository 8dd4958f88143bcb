"""A character LSTM: reads a text, foretells each next character, writes in its manner.

    python -m experiments.shakespeare_lstm                          # the text of Python's help(), no download
    python -m experiments.shakespeare_lstm --data tiny_shakespeare

Trained by truncated backpropagation through time: each row of the batch reads on where it stopped, with its carry. The
loss is measured on the last tenth of the text, read from its start to its end in one piece, without any choice made on
it. Published for Tiny Shakespeare, on the same tenth: 1.4697 nats a character by a GPT of 6 layers, 384 wide, and 1.88
by one of 4 layers, 128 wide (README of nanoGPT, Karpathy 2022).
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
from jann.generation import sample

PUBLISHED = {"tiny_shakespeare": "1.4697 GPT 6 x 384, 1.88 GPT 4 x 128 (nanoGPT)", "python_topics": "none"}
TEMPERATURES = (0.5, 0.8, 1.0)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: see `main`."""

    steps: int
    batch_size: int = 32
    length: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    average: float = 0.995


@partial(jax.jit, static_argnums=(0, 3))
def losses_of(model: jann.Model, params: Any, tokens: jax.Array, rows: int = 1) -> jax.Array:
    """tokens[n] -> the mean loss of all n − 1 foretold, in nats; read as `rows` pieces side by side, exact for one.

    In pieces of 256, so that the memory it takes does not grow with the text.
    """
    inputs, targets = tokens[:-1], tokens[1:]
    each = -(-len(inputs) // (rows * 256)) * 256
    missing = rows * each - len(inputs)
    weights = jnp.pad(jnp.ones(len(inputs)), (0, missing)).reshape(rows, -1, 256).swapaxes(0, 1)
    inputs, targets = (
        jnp.pad(values, (0, missing)).reshape(rows, -1, 256).swapaxes(0, 1) for values in (inputs, targets)
    )

    def piece(carry, given):
        inputs, targets, weights = given
        logits, carry = model.apply(params, inputs, state=carry)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return carry, (losses * weights).sum()

    _, sums = jax.lax.scan(piece, model.carry(rows), (inputs, targets, weights))
    return sums.sum() / (len(tokens) - 1)


def train_one(folder: Path, text: Any, model: jann.Model, recipe: Recipe, seed: int) -> tuple[float, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (validation loss, history, parameters)."""
    key = jax.random.key(seed)
    windows = jann.data.contiguous(text.train, recipe.batch_size, recipe.length, jax.random.fold_in(key, 1))
    optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay, recipe.steps)
    start = jann.start(model, optimizer, key, average_weights=True)
    start = start.replace(extra={**start.extra, "carry": model.carry(recipe.batch_size)})
    validation = jnp.asarray(text.validation)

    def evaluate(train_state):
        return {"validation_loss": losses_of(model, jann.eval_params(train_state), validation, 64)}

    train_state, history = jann.fit(
        jann.make_step(jann.training.windowed(model), optimizer, average=recipe.average),
        windows, start, recipe.steps, evaluate=evaluate, folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < recipe.steps:
        raise KeyboardInterrupt
    params = jann.eval_params(train_state)
    return float(losses_of(model, params, validation, 1)), history, params


def written(text: Any, model: jann.Model, params: Any, characters: int, key: jax.Array) -> str:
    """What the model writes at several temperatures, each going on from a line break."""
    prompt = text.encode("\n")

    @jax.jit
    def write(params, temperature):
        def step(tokens, state):
            return model.apply(params, tokens, state=state)

        return sample(step, prompt, characters, key, temperature)

    parts = [f"temperature {t}\n\n{text.decode(write(params, t)).strip()}\n" for t in TEMPERATURES]
    return f"\n{'-' * 80}\n".join(parts)


def run(
    out: Path, text: Any, model: jann.Model, recipe: Recipe, seeds: int, seed: int, characters: int = 1000
) -> None:
    """Trains `seeds` models, each in a folder of its own in `out`; reports on all of them."""
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": text.name})
    print(text, jann.summary(model), sep="\n\n", end="\n\n")
    results = each_seed(folder, seeds, seed, lambda at, number: train_one(at, text, model, recipe, number))
    losses, histories, params = zip(*results, strict=True)
    sampled = written(text, model, params[0], characters, jax.random.key(seed))
    (folder / "samples.txt").write_text(sampled)
    metrics = {"train (dropout)": "loss", "validation": "validation_loss"}
    save_figures(folder, loss=metric_curves(histories, metrics, ylabel="nats a character", title=text.name))
    row = {"dataset": text.name, "model": repr(model), "parameters": jann.count(model)}
    measured = {"validation_loss": losses, "validation_perplexity": np.exp(losses)}
    print(f"\n{sampled}\n")
    report(folder, f"{text.name}: {model!r}", row, measured, PUBLISHED.get(text.name, "none"))


def main(
    data: Literal["python_topics", "tiny_shakespeare"] = "python_topics",
    cell: Literal["lstm", "gru", "rnn"] = "lstm",
    hidden: int = 384,
    layers: int = 1,
    embed: int = 64,
    dropout: float = 0.1,
    steps: int = 3800,
    batch_size: int = 32,
    length: int = 64,
    learning_rate: float = 4e-3,
    weight_decay: float = 0.01,
    average: float = 0.995,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a character language model and lets it write.

    Args:
        data: The text: Python's help topics, which need no download, or Shakespeare's plays.
        cell: The recurrent cell.
        hidden: Features of its carry.
        layers: Cells on top of each other.
        embed: Features of a character.
        dropout: Rate on the embeddings, between layers and before the logits.
        steps: Windows that each row of the batch reads.
        batch_size: Rows, each reading on from its own place in the text.
        length: Characters in a window, over which gradients flow.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        average: Decay of the running average of the weights, which is what is evaluated and saved.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/shakespeare_lstm-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(steps=steps, batch_size=batch_size, length=length, seeds=seeds)
    at_least_one(hidden=hidden, layers=layers, embed=embed)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    below_one(dropout=dropout, average=average)
    text = jann.data.load(data)
    model = jann.models.RecurrentLanguageModel(len(text.vocabulary), embed, hidden, layers, cell, dropout)
    recipe = Recipe(steps, batch_size, length, learning_rate, weight_decay, average)
    run(out or Path(f"runs/shakespeare_lstm-{data}"), text, model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
