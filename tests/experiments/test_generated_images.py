"""The judge of generated images: knows real ones, comes back from its folder, refuses what is no image."""

import sys

import numpy as np
import pytest

import jann
from experiments.generated_images import train_judge
from experiments.image_classification import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("judge")


@pytest.fixture(scope="module")
def judge(folder):
    return train_judge(jann.data.load("digits"), folder, Recipe(epochs=6, learning_rate=5e-3))


def test_real_images_score_as_real_and_noise_does_not(judge):
    assert judge.accuracy > 0.9
    first, second = judge.halves
    real = judge.score(second["image"], second["label"])
    assert real["classified_as_asked"] > 0.9
    assert real["frechet_distance"] == real["frechet_distance_real"] > 0
    assert judge.score(first["image"], first["label"])["frechet_distance"] < 1e-6

    noise = np.random.default_rng(0).random(second["image"].shape)
    noisy = judge.score(noise, second["label"])
    assert noisy["classified_as_asked"] < 0.3
    assert noisy["frechet_distance"] > 5 * noisy["frechet_distance_real"] == 5 * real["frechet_distance_real"]

    shuffled = judge.score(second["image"], np.roll(second["label"], 1))
    assert shuffled["classified_as_asked"] < 0.3 and shuffled["frechet_distance"] == real["frechet_distance"]


def test_the_halves_are_the_unseen_images_each_once(judge):
    halves, dataset = judge.halves, judge.dataset
    unseen = np.concatenate([dataset.validation["image"], dataset.test["image"]]) / np.float32(16)
    together = np.concatenate([half["image"] for half in halves])
    assert sorted(map(bytes, together)) == sorted(map(bytes, unseen))
    np.testing.assert_array_equal(judge.asked(300), np.concatenate([halves[1]["label"], halves[1]["label"][:30]]))


def test_features_are_what_the_last_layer_sees(judge):
    images = judge.halves[0]["image"][:7]
    logits, features = judge.look(images, size=3)
    weight, bias = map(np.asarray, (judge.params["dense"][-1]["weight"], judge.params["dense"][-1]["bias"]))
    np.testing.assert_allclose(features @ weight + bias, logits, atol=1e-4)


def test_the_same_judge_comes_back_without_training(judge, folder, monkeypatch):
    def untrained(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(sys.modules["jann.training.fit"], "chunks", untrained)
    again = train_judge(judge.dataset, folder, Recipe(epochs=6, learning_rate=5e-3))
    assert again.accuracy == judge.accuracy and again.model == judge.model
    with pytest.raises(jann.RunFolderError, match="recipe"):
        train_judge(judge.dataset, folder, Recipe(epochs=7))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 8, 8)), r"judge of digits looks at images\[n, 8, 8, 1\], got \[3, 8, 8\]"),
        (np.full((3, 8, 8, 1), 1.5), r"in \[0, 1\], got 1.5 to 1.5: clip them"),
        (np.full((3, 8, 8, 1), np.nan), "got nan to nan"),
    ],
)
def test_what_is_no_image_is_refused(judge, images, message):
    with pytest.raises(ValueError, match=message):
        judge.score(images, [0, 1, 2])
