"""The judge of generated images: a classifier that was trained on real ones and has no part in generating.

    judge = train_judge(dataset, Path("runs/judge-mnist"))
    judge.score(images, asked)
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jann
from experiments.image_classification import Recipe, train_one
from experiments.reporting import stoppable
from jann.analysis import frechet_distance
from jann.models import VGG, LeNet

SEED = 20_000  # far from the seeds of generators


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """A classifier with the real images that it never saw: the data set's validation and test images, in two halves.

    accuracy:  on the test images
    """

    dataset: Any
    model: jann.Model
    params: Any
    accuracy: float

    @functools.cached_property
    def halves(self) -> tuple[dict, dict]:
        """Two halves of the unseen real images, {"image": in [0, 1], "label"} each, drawn at random, always alike."""
        splits = (self.dataset.validation, self.dataset.test)
        unseen = {name: np.concatenate([split[name] for split in splits]) for name in ("image", "label")}
        order = np.random.default_rng(SEED).permutation(len(unseen["label"]))
        unseen = {"image": unseen["image"] / np.float32(self.dataset.scale), "label": unseen["label"]}
        half = len(order) // 2
        return tuple({name: value[rows] for name, value in unseen.items()} for rows in (order[:half], order[-half:]))

    def asked(self, n: int) -> np.ndarray:
        """n labels to ask a generator for: those of the second half of the real images, over again where n is more."""
        return np.resize(self.halves[1]["label"], n)

    def look(self, images: np.ndarray, size: int = 500) -> tuple[np.ndarray, np.ndarray]:
        """images[n, height, width, channels] in [0, 1] -> (logits[n, classes], features[n, d] before the last layer)

        Raises ValueError for other shapes and values.
        """
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or images.shape[1:] != self.dataset.train["image"].shape[1:]:
            shape = ", ".join(map(str, self.dataset.train["image"].shape[1:]))
            raise ValueError(f"the judge of {self.dataset.name} looks at images[n, {shape}], got {list(images.shape)}")
        if not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(f"images must lie in [0, 1], got {images.min():.3g} to {images.max():.3g}: clip them")
        parts = [images[i : i + size] for i in range(0, len(images), size)]
        seen = [_look(self.model, self.params, self._standardised(part)) for part in parts]
        logits, features = (np.concatenate(values) for values in zip(*seen, strict=True))
        return logits, features

    def score(self, images: np.ndarray, asked: np.ndarray) -> dict[str, float]:
        """images[n, height, width, channels] in [0, 1], asked[n] labels -> how good they are, beside real images

        classified_as_asked:    the share that the judge takes for what was asked
        frechet_distance:       to the first half of the real images, in the judge's features
        frechet_distance_real:  of the second half to the first. As many images are used for both distances (the least
                                of what there is), because few images make it larger.
        """
        logits, features = self.look(images)
        first, second = self._real_features
        n = min(len(features), len(second))
        return {
            "classified_as_asked": float(np.mean(logits.argmax(-1) == np.asarray(asked))),
            "frechet_distance": frechet_distance(features[:n], first),
            "frechet_distance_real": frechet_distance(second[:n], first),
        }

    @functools.cached_property
    def _real_features(self) -> tuple[np.ndarray, ...]:
        return tuple(self.look(half["image"])[1] for half in self.halves)

    def _standardised(self, images: np.ndarray) -> jax.Array:
        return self.dataset.standardise({"image": images * self.dataset.scale})["image"]


def train_judge(dataset: Any, folder: Path, recipe: Recipe | None = None) -> Judge:
    """Trains the data set's judge in `folder`, or reads it from there; always the same one.

    LeNet-5 for images of 28 or 32 pixels, for smaller ones a small VGG.
    """
    size, _, channels = dataset.train["image"].shape[1:]
    small, classes = size < 28, len(dataset.classes)
    if small:
        model = VGG(channels, classes, ((32, 32), (64,)), hidden=(64,), size=size, dropout=0.2)
    else:
        model = LeNet(channels, classes, size, jax.nn.relu)
    recipe = recipe or Recipe(epochs=30 if small else 6, learning_rate=2e-3)

    def transform(batch, key):
        shifted = jann.data.random_crop(batch["image"], key, pad=1 if small else 2)
        return dataset.standardise({**batch, "image": shifted})

    jann.open_run(folder, {"dataset": dataset.name, "recipe": dataclasses.asdict(recipe), "seed": SEED})
    test, _, params = train_one(folder, dataset, model, recipe, transform, dataset.standardise, SEED)
    return Judge(dataset, model, params, float(test["accuracy"]))


def judge_beside(folder: Path, dataset: Any) -> Judge:
    """The data set's judge, which the runs beside `folder` share."""
    print("the judge")
    with stoppable(folder):
        return train_judge(dataset, folder.parent / f"judge-{dataset.name}")


@jax.jit(static_argnums=0)
def _look(model, params, images):
    logits, taps = jann.observe(model)(params, images)
    return logits, list(taps.values())[-1]  # a classifier's last tap is what its last layer sees
