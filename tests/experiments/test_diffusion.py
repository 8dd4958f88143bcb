"""The diffusion experiment at a tiny size: learns, resumes, reports what its samples are."""

import json

import jax
import numpy as np
import pytest

import jann
from experiments import generated_images
from experiments.diffusion import SCHEDULES, Process, Size, main, model_of, sample_all
from experiments.image_classification import Recipe

TINY = {"steps": 40, "batch_size": 32, "embed": 32, "depth": 1, "samples": 20, "sampler_steps": 4, "seed": 5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder whose judge is trained (briefly) once for all tests."""
    place = tmp_path_factory.mktemp("runs")
    brief = Recipe(epochs=3, learning_rate=5e-3)
    train_judge = generated_images.train_judge
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated_images, "train_judge", lambda dataset, folder: train_judge(dataset, folder, brief))
        yield place


@pytest.fixture(scope="module")
def whole(place):
    main(**TINY, out=place / "whole")
    return place / "whole"


def test_results_are_those_of_the_saved_models(whole, place):
    rows = json.loads((whole / "results.json").read_text())["rows"]
    assert [row["guidance"] for row in rows] == [1.0, 2.0]
    for row in rows:
        assert row["test_frechet_distance"]["mean"] > row["test_frechet_distance_real"]["mean"] > 0
        assert 0 <= row["test_classified_as_asked"]["mean"] <= 1

    dataset = jann.data.load("digits")
    judge = generated_images.train_judge(dataset, place / "judge-digits")
    model, params = jann.load(whole / "seed-5")
    process = Process("ddpm", SCHEDULES["cosine"](), "v", None, 10)
    asked = judge.asked(20)
    images = sample_all(
        params, (8, 8, 1), asked, jann.fold(jax.random.key(5), "samples"),
        model=model, process=process, guidance=2.0, sampler="ddim", steps=4,
    )  # fmt: skip
    score = judge.score(images, asked)
    for name, value in score.items():
        assert np.isclose(rows[1][f"test_{name}"]["seeds"][0], value, rtol=1e-4), name
    for name in ("samples", "real", "denoising", "loss"):
        assert (whole / f"{name}.png").exists(), name


def test_it_learns(whole):
    lines = [json.loads(line) for line in (whole / "seed-5" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    assert lines[-1]["validation_loss"] < 0.95 * lines[0]["validation_loss"]


def test_interrupted_goes_on_to_the_same_end(whole, place, monkeypatch):
    fit = jann.fit

    def fit_half(step, batches, train_state, n, **options):
        return fit(step, batches, train_state, n // 2, **options)

    monkeypatch.setattr(jann, "fit", fit_half)
    with pytest.raises(SystemExit, match="130"):
        main(**TINY, out=place / "broken")
    assert not (place / "broken" / "results.json").exists()
    monkeypatch.setattr(jann, "fit", fit)
    main(**TINY, out=place / "broken")
    assert (place / "broken" / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_flow_matching(place):
    main(**{**TINY, "steps": 20}, process="flow", guidance=(2.0,), out=place / "flow")
    (row,) = json.loads((place / "flow" / "results.json").read_text())["rows"]
    assert row["process"] == "flow" and np.isfinite(row["test_frechet_distance"]["mean"])
    lines = [json.loads(line) for line in (place / "flow" / "seed-5" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_unet_by_ddpm(key):
    dataset = jann.data.load("digits")
    model = model_of("unet", dataset, Size(embed=16, depth=1, patch=2, steps=1, batch_size=1, samples=1))
    process = Process("ddpm", SCHEDULES["linear"](), "noise", 5.0, 10)
    random = np.random.default_rng(0)  # drawing them with JAX compiles for each shape
    shapes = jax.eval_shape(model.init, key)
    params = jax.tree.map(lambda leaf: np.float32(0.1 * random.normal(size=leaf.shape)), shapes)
    options = {"model": model, "process": process, "guidance": 1.0, "sampler": "ddpm", "steps": 3}
    images = sample_all(params, (8, 8, 1), np.array([3, 1]), key, size=2, **options)
    other = sample_all(params, (8, 8, 1), np.array([3, 1]), jax.random.key(1), size=2, **options)
    assert images.shape == (2, 8, 8, 1) and 0 <= images.min() < images.max() <= 1
    assert np.abs(images - other).max() > 0.1


def test_a_sampler_of_the_other_process_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--sampler ddim is not for --process flow"):
        main(process="flow", sampler="ddim", out=tmp_path)
