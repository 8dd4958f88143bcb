"""A character Mamba: reads a text with a state in place of attention, foretells each next character, writes on.

    python -m experiments.shakespeare_mamba                          # the text of Python's help(), no download
    python -m experiments.shakespeare_mamba --data tiny_shakespeare

Trained and measured as `experiments.shakespeare_gpt`, with windows of the same length. For none of these texts is a
result of Mamba's published.
"""

from pathlib import Path
from typing import Literal

import jann
from experiments.reporting import at_least_one, below_one, command, more_than_zero, not_negative
from experiments.shakespeare_gpt import Recipe, run


def main(
    data: Literal["python_topics", "tiny_shakespeare"] = "python_topics",
    layers: int = 4,
    embed: int = 128,
    state: int = 16,
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
    """Trains a character Mamba and lets it write.

    Args:
        data: The text: Python's help topics, which need no download, or Shakespeare's plays.
        layers: Blocks of the model.
        embed: Its width.
        state: Numbers that each feature inside a block carries along.
        length: Characters in a window, over which it is trained and measured.
        dropout: Rate on embeddings and what each block adds.
        steps: Training steps.
        batch_size: Windows in a step, from anywhere in the text.
        learning_rate: Peak of the warm-up and cosine schedule (AdamW).
        weight_decay: Decay of the kernels.
        average: Decay of the running average of the weights, which is what is evaluated and saved.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/shakespeare_mamba-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(layers=layers, embed=embed, state=state, steps=steps, batch_size=batch_size, length=length)
    at_least_one(seeds=seeds)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    below_one(dropout=dropout, average=average)
    text = jann.data.load(data)
    model = jann.models.Mamba(len(text.vocabulary), embed, layers, state=state, dropout=dropout)
    recipe = Recipe(steps, batch_size, length, learning_rate, weight_decay, average)
    run(out or Path(f"runs/shakespeare_mamba-{data}"), text, model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
