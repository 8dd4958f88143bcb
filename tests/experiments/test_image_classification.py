"""The shared image experiment, on scikit-learn's digits: resumes, reports, and loads."""

import json

import numpy as np
import pytest

import jann
from experiments import image_classification
from experiments.image_classification import Recipe, run


@pytest.fixture
def arguments(tmp_path):
    dataset = jann.data.load("digits")
    model = jann.models.VGG(inputs=1, outputs=10, widths=((8,), (16,)))
    return {
        "out": tmp_path / "run", "dataset": dataset, "model": model, "recipe": Recipe(epochs=8, learning_rate=0.03),
        "transform": dataset.standardise, "prepare": dataset.standardise, "published": "none", "seeds": 2, "seed": 3,
    }  # fmt: skip


def test_results_are_those_of_the_saved_models(arguments):
    run(**arguments)
    (row,) = json.loads((arguments["out"] / "results.json").read_text())["rows"]
    dataset = arguments["dataset"]
    for seed, stored in zip((3, 4), row["test_accuracy"]["seeds"], strict=True):
        model, params = jann.load(arguments["out"] / f"seed-{seed}")
        logits = model(params, dataset.standardise(dataset.test)["image"])
        assert np.isclose(np.mean(logits.argmax(-1) == dataset.test["label"]), stored)
        assert stored > 0.8
    error = row["test_error_percent"]
    assert np.isclose(error["mean"], 100 * (1 - row["test_accuracy"]["mean"]))
    assert error["low"] < error["mean"] < error["high"]
    for name in ("accuracy", "loss", "confusion", "mistakes", "filters", "feature_maps"):
        assert (arguments["out"] / f"{name}.png").exists(), name


def test_interrupted_goes_on_to_the_same_end(arguments, monkeypatch, tmp_path):
    run(**arguments)
    whole = (arguments["out"] / "results.json").read_bytes()
    fit = image_classification.jann.fit
    broken = {**arguments, "out": tmp_path / "broken"}

    def fit_half(step, batches, train_state, n, **options):
        return fit(step, batches, train_state, n // 2, **options)

    monkeypatch.setattr(image_classification.jann, "fit", fit_half)
    with pytest.raises(SystemExit, match="130"):
        run(**broken)
    assert not (broken["out"] / "results.json").exists()
    monkeypatch.setattr(image_classification.jann, "fit", fit)
    run(**broken)
    assert (broken["out"] / "results.json").read_bytes() == whole
