"""A character GPT: reads a text, foretells each next character, writes in its manner.

    python -m experiments.shakespeare_gpt                          # the text of Python's help(), no download
    python -m experiments.shakespeare_gpt --data tiny_shakespeare
    python -m experiments.shakespeare_gpt --data tiny_shakespeare --layers 6 --embed 384 --heads 6 --length 256

The loss is measured on the last tenth of the text, cut into windows that are read one after another, each without a
memory of the one before; without any choice made on it. Published for Tiny Shakespeare, on windows of the same tenth:
1.4697 nats a character by a GPT of 6 layers, 384 wide, and 1.88 by one of 4 layers, 128 wide (README of nanoGPT,
Karpathy 2022).
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

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
from jann.generation import generate

PUBLISHED = {"tiny_shakespeare": "1.4697 GPT 6 x 384, 1.88 GPT 4 x 128 (nanoGPT)", "python_topics": "none"}
TEMPERATURES = (0.5, 0.8, 1.0)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: see `main`."""

    steps: int
    batch_size: int
    length: int
    learning_rate: float
    weight_decay: float
    average: float


def train_one(folder: Path, text: Any, model: jann.Model, recipe: Recipe, seed: int) -> tuple[float, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (validation loss, history, parameters)."""
    key = jax.random.key(seed)
    windows = jann.data.windows(text.train, recipe.batch_size, recipe.length, jax.random.fold_in(key, 1))
    optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay, recipe.steps)
    validation = jann.data.whole_windows(text.validation, recipe.length)
    measure = jann.measure(model, jann.language, "token")

    def evaluate(train_state):
        found = jann.evaluate(measure, jann.eval_params(train_state), validation, 64)
        return {f"validation_{name}": value for name, value in found.items()}

    train_state, history = jann.fit(
        jann.make_step(jann.objective(model, jann.language, "token"), optimizer, average=recipe.average),
        windows, jann.start(model, optimizer, key, average_weights=True), recipe.steps,
        evaluate=evaluate, folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < recipe.steps:
        raise KeyboardInterrupt
    return float(history["validation_loss"][-1]), history, jann.eval_params(train_state)


def written(text: Any, model: jann.Model, params: Any, characters: int, key: jax.Array) -> str:
    """What the model writes at several temperatures, each going on from a line break.

    Where it sees no more than `model.limit`, it goes on from the last half of that when they are full.
    """
    half, parts = getattr(model, "limit", 2 * characters) // 2, []
    for temperature in TEMPERATURES:
        tokens = text.encode("\n").tolist()
        while len(tokens) < characters:
            piece = jax.random.fold_in(key, len(tokens))
            made = generate(model, params, [tokens[-half:]], half, key=piece, temperature=temperature)
            tokens += made.tokens[0].tolist()
        parts.append(f"temperature {temperature}\n\n{text.decode(tokens[:characters]).strip()}\n")
    return f"\n{'-' * 80}\n".join(parts)


def run(out: Path, text: Any, model: jann.Model, recipe: Recipe, seeds: int, seed: int) -> None:
    """Trains `seeds` models, each in a folder of its own in `out`; reports on all of them."""
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": text.name})
    print(text, jann.summary(model), sep="\n\n", end="\n\n")
    results = each_seed(folder, seeds, seed, lambda at, number: train_one(at, text, model, recipe, number))
    losses, histories, params = zip(*results, strict=True)
    sampled = written(text, model, params[0], 600, jax.random.key(seed))
    (folder / "samples.txt").write_text(sampled)
    metrics = {"train": "loss", "validation (averaged weights)": "validation_loss"}
    save_figures(folder, loss=metric_curves(histories, metrics, ylabel="nats a character", title=text.name))
    row = {"dataset": text.name, "model": repr(model), "parameters": jann.count(model)}
    measured = {"validation_loss": losses, "validation_perplexity": np.exp(losses)}
    print(f"\n{sampled}\n")
    report(folder, f"{text.name}: {model!r}", row, measured, PUBLISHED.get(text.name, "none"))


def main(
    data: Literal["python_topics", "tiny_shakespeare"] = "python_topics",
    layers: int = 4,
    embed: int = 128,
    heads: int = 4,
    length: int = 128,
    dropout: float = 0.0,
    steps: int = 2500,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.1,
    average: float = 0.995,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a character GPT and lets it write.

    Args:
        data: The text: Python's help topics, which need no download, or Shakespeare's plays.
        layers: Blocks of the model.
        embed: Its width.
        heads: Heads of attention in each block.
        length: Characters in a window: how many it can see, over which it is trained and measured.
        dropout: Rate on embeddings, attention and what each half of a block adds.
        steps: Training steps.
        batch_size: Windows in a step, from anywhere in the text.
        learning_rate: Peak of the warm-up and cosine schedule (AdamW).
        weight_decay: Decay of the kernels.
        average: Decay of the running average of the weights, which is what is evaluated and saved.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/shakespeare_gpt-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(steps=steps, batch_size=batch_size, length=length, seeds=seeds)
    at_least_one(layers=layers, embed=embed, heads=heads)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    below_one(dropout=dropout, average=average)
    text = jann.data.load(data)
    model = jann.models.GPT2(len(text.vocabulary), length, embed, layers, heads, dropout=dropout)
    recipe = Recipe(steps, batch_size, length, learning_rate, weight_decay, average)
    run(out or Path(f"runs/shakespeare_gpt-{data}"), text, model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
