"""CIFAR-10: ResNet-20 on small photographs.

    python -m experiments.cifar10 --epochs 30

Published: 8.75 % test error after 164 epochs over all 50,000 images (He, Zhang, Ren and Sun 2016). A full run takes
many hours on a CPU; `--data cifar10_subset` trains on a fifth of the images, for which nothing is published.
"""

from pathlib import Path
from typing import Literal

import jax

import jann
from experiments.image_classification import Recipe, run
from experiments.reporting import at_least_one, command, more_than_zero, not_negative

PUBLISHED = {
    "cifar10": "error 8.75 % (He et al. 2016; 164 epochs, 50,000 images)",
    "cifar10_subset": "none; a fifth of CIFAR-10's images",
}


def main(
    data: Literal["cifar10", "cifar10_subset"] = "cifar10",
    epochs: int = 30,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.05,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains ResNet-20 on CIFAR-10 and compares its test error with the published one.

    Args:
        data: cifar10 (45,000 training images), or cifar10_subset (9,000, where the folder JANN_DATA has it).
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        seeds: How many classifiers, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/DATA. The same command goes on with an interrupted run.
    """
    at_least_one(epochs=epochs, batch_size=batch_size, seeds=seeds)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    dataset = jann.data.load(data)
    standardise = dataset.standardise

    def transform(batch, key):
        flipped = jann.data.random_flip(batch["image"], jax.random.fold_in(key, 0))
        return standardise({**batch, "image": jann.data.random_crop(flipped, jax.random.fold_in(key, 1), pad=4)})

    run(
        out or Path(f"runs/{data}"), dataset, jann.models.resnet20(),
        Recipe(epochs, batch_size, learning_rate, weight_decay),
        transform=transform, prepare=standardise, published=PUBLISHED[data], seeds=seeds, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
