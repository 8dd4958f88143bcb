"""The Vision Transformer on small images, trained from scratch, and what its answer looks at.

    python -m experiments.vit_images                          # scikit-learn's digits, no download
    python -m experiments.vit_images --data fashion_mnist
    python -m experiments.vit_images --data cifar10

Without much data a ViT is behind a convolutional network, which need not learn that near pixels belong together
(Dosovitskiy et al. 2020, arXiv:2010.11929, section 4.3): so the published figures beside it are those of such networks.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.figure import Figure

import jann
from experiments.image_classification import Recipe, run
from experiments.reporting import at_least_one, below_one, command, given, more_than_zero, not_negative
from jann.models import ViT


@dataclasses.dataclass(frozen=True)
class Setting:
    """What suits a data set: a model, how it is trained, how far images are moved, whether their mirror images count"""

    model: ViT
    recipe: Recipe
    shift: int
    flip: bool
    published: str


SETTINGS = {
    "digits": Setting(
        ViT(8, 2, 1, embed=64, layers=4, heads=4, hidden=128, outputs=10),
        Recipe(100, 64, 2e-3, 0.05, 0.99), 1, False,
        "none on this split",
    ),
    "fashion_mnist": Setting(
        ViT(28, 7, 1, embed=128, layers=6, heads=4, hidden=256, outputs=10),
        Recipe(20, 128, 1e-3, 0.05, 0.999), 1, True,
        "accuracy of CNNs: 2 convolutions 87.6-92.5 %, with batch norm 93.4 %, ResNet-18 94.9 % (README of the data)",
    ),
    "cifar10": Setting(
        ViT(32, 4, 3, embed=192, layers=6, heads=6, hidden=384, outputs=10),
        Recipe(60, 128, 1e-3, 0.05, 0.999), 4, True,
        "error of a CNN: ResNet-20 8.75 % (He et al. 2016; 164 epochs, 50,000 images)",
    ),
}  # fmt: skip
SETTINGS["cifar10_subset"] = dataclasses.replace(SETTINGS["cifar10"], published="none; a fifth of CIFAR-10's images")


def for_small(params: Any) -> Any:
    """Parameters of a narrow ViT as drawn -> with positions 25 times as large

    As published, patches drown where they stand, and digits are guessed for hundreds of steps.
    """
    return {**params, "positions": 25 * params["positions"]}


def moved(dataset: Any, shift: int, flip: bool, batch: dict, key: jax.Array) -> dict:
    """A training batch: each image mirrored or not, moved by up to `shift` pixels, standardised"""
    images = batch["image"]
    if flip:
        images = jann.data.random_flip(images, jax.random.fold_in(key, 0))
    return dataset.standardise({**batch, "image": jann.data.random_crop(images, jax.random.fold_in(key, 1), shift)})


def rollout(attention: np.ndarray) -> np.ndarray:
    """attention[layers, images, heads, places, places] -> how much each place counts in the first, [images, places]

    Each block passes on half of what was in a place and half of what it attends to, mean over heads; the blocks'
    matrices multiplied. Abnar and Zuidema 2020, arXiv:2005.00928.
    """
    mixed = (attention.mean(2) + np.eye(attention.shape[-1], dtype=attention.dtype)) / 2
    total = mixed[0]
    for block in mixed[1:]:
        total = block @ total
    return total[:, 0]


def pictured(weights: np.ndarray, size: int) -> np.ndarray:
    """weights[images, 1 + patches] -> [images, size, size]: those of the patches, in their places, the largest 1"""
    patches = weights[:, 1:]
    rows = round(patches.shape[1] ** 0.5)
    squares = (patches / patches.max(1, keepdims=True)).reshape(-1, rows, rows)
    return squares.repeat(size // rows, 1).repeat(size // rows, 2)


def attention_figure(dataset: Any, model: ViT, shown: int, params: Any) -> dict[str, Figure]:
    """Test images in a row; below, what the answering token attends to in the last block, and through all of them"""
    images, labels = dataset.test["image"][:shown], dataset.test["label"][:shown]
    logits, taps = jann.observe(model)(params, dataset.standardise({"image": images})["image"])
    attention = np.asarray(taps["attention"])
    maps = [pictured(weights, model.size) for weights in (attention[-1].mean(1)[:, 0], rollout(attention))]
    maps = [np.repeat(part[..., None], model.channels, -1) for part in maps]
    said = np.asarray(logits).argmax(-1)
    captions = [f"{dataset.classes[a]}, said {dataset.classes[b]}" for a, b in zip(labels, said, strict=True)]
    return {
        "attention": jann.plots.images(
            np.concatenate([images / dataset.scale, *maps]),
            [*captions, *["last block"] * shown, *["all blocks"] * shown],
            columns=shown,
            title="What the answer attends to (white: most)",
        )
    }


def main(
    data: Literal["digits", "fashion_mnist", "cifar10", "cifar10_subset"] = "digits",
    patch: int | None = None,
    embed: int | None = None,
    layers: int | None = None,
    heads: int | None = None,
    hidden: int | None = None,
    dropout: float = 0.0,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    average: float | None = None,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a ViT from scratch, compares its test accuracy with published ones, and draws its attention.

    What is not given follows from the data set.

    Args:
        data: The images: digits need no download, cifar10_subset is where the folder JANN_DATA has it.
        patch: Height and width of a patch; must divide those of the image.
        embed: Features of a patch.
        layers: Blocks on top of each other.
        heads: Heads of attention in each.
        hidden: Width inside a block's second half.
        dropout: Rate on the embeddings, on attention and on what each half of a block adds.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        average: Decay of the running average of the weights, which is what is evaluated and saved.
        seeds: How many classifiers, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/vit_images-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(patch=patch, epochs=epochs, batch_size=batch_size, seeds=seeds)
    at_least_one(embed=embed, layers=layers, heads=heads, hidden=hidden)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    below_one(dropout=dropout, average=average)
    setting = SETTINGS[data]
    if patch is not None and setting.model.size % patch:
        raise SystemExit(f"--patch {patch} must divide the image's {setting.model.size}")
    shape = {"patch": patch, "embed": embed, "layers": layers, "heads": heads, "hidden": hidden, "dropout": dropout}
    model = dataclasses.replace(setting.model, **given(**shape))
    training = given(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, weight_decay=weight_decay, average=average
    )
    dataset = jann.data.load(data)
    run(
        out or Path(f"runs/vit_images-{data}"), dataset, model, dataclasses.replace(setting.recipe, **training),
        transform=partial(moved, dataset, setting.shift, setting.flip), prepare=dataset.standardise,
        published=setting.published, seeds=seeds, seed=seed, begin=for_small,
        look=partial(attention_figure, dataset, model, 8),
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
