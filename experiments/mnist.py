"""MNIST: an MLP or LeNet-5 on handwritten digits.

    python -m experiments.mnist --model lenet --seeds 3

Published test errors: LeNet-5 0.95 %, 0.8 % with distorted training images (LeCun, Bottou, Bengio and Haffner 1998);
two-layer networks with dropout about 1.6 % (Simard, Steinkraus and Platt 2003; Srivastava et al. 2014).
"""

from pathlib import Path
from typing import Literal

import jax

import jann
from experiments.image_classification import Recipe, run
from experiments.reporting import at_least_one, command, more_than_zero, not_negative

PUBLISHED = {"mlp": "error 1.6 % (Simard et al. 2003)", "lenet": "error 0.95 % (LeCun et al. 1998)"}


def main(
    model: Literal["mlp", "lenet"] = "lenet",
    epochs: int = 15,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.01,
    seeds: int = 3,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains classifiers of MNIST's handwritten digits and compares their test error with the published one.

    Args:
        model: mlp (784-512-512-10 with dropout) or lenet (LeNet-5).
        epochs: Passes over the 55,000 training images.
        batch_size: Images in a step.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        seeds: How many classifiers, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/mnist-MODEL. The same command goes on with an interrupted run.
    """
    at_least_one(epochs=epochs, batch_size=batch_size, seeds=seeds)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    dataset = jann.data.load("mnist")
    standardise = dataset.standardise

    if model == "mlp":
        network = jann.models.MLP(inputs=784, hidden=(512, 512), outputs=10, dropout=0.3)

        def prepare(batch, key=None):
            batch = standardise(batch)
            return {**batch, "image": batch["image"].reshape(*batch["image"].shape[:-3], 784)}

        transform = prepare
    else:
        network = jann.models.LeNet(activation=jax.nn.relu)
        prepare = standardise

        def transform(batch, key):
            return standardise({**batch, "image": jann.data.random_crop(batch["image"], key, pad=2)})

    run(
        out or Path(f"runs/mnist-{model}"), dataset, network,
        Recipe(epochs, batch_size, learning_rate, weight_decay),
        transform=transform, prepare=prepare, published=PUBLISHED[model], seeds=seeds, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
