"""Fashion-MNIST: a small VGG-like CNN on pictures of clothes.

    python -m experiments.fashion_mnist --epochs 10

Published test accuracies (Xiao, Rasul and Vollgraf 2017 and the benchmark table of its repository): two convolutions
with pooling 87.6-92.5 %, with batch norm 93.4 %.
"""

from pathlib import Path

import jax

import jann
from experiments.image_classification import Recipe, run
from experiments.reporting import at_least_one, command, more_than_zero, not_negative


def main(
    epochs: int = 8,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.02,
    seeds: int = 1,
    seed: int = 0,
    out: Path = Path("runs/fashion_mnist"),
) -> None:
    """Trains a CNN on Fashion-MNIST and compares its test accuracy with the published ones.

    Args:
        epochs: Passes over the 55,000 training images.
        batch_size: Images in a step.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        seeds: How many classifiers, from different random starts.
        seed: The first seed.
        out: The run folder. The same command goes on with an interrupted run.
    """
    at_least_one(epochs=epochs, batch_size=batch_size, seeds=seeds)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    dataset = jann.data.load("fashion_mnist")
    standardise = dataset.standardise

    def transform(batch, key):
        flipped = jann.data.random_flip(batch["image"], jax.random.fold_in(key, 0))
        return standardise({**batch, "image": jann.data.random_crop(flipped, jax.random.fold_in(key, 1), pad=1)})

    network = jann.models.VGG(inputs=1, outputs=10, widths=((16, 16), (32, 32), (64, 64)))
    run(
        out, dataset, network, Recipe(epochs, batch_size, learning_rate, weight_decay),
        transform=transform, prepare=standardise, published="accuracy 92-93 % (Xiao et al. 2017)",
        seeds=seeds, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
