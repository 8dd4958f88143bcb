"""The GAN experiment, small: what it writes, that its generator comes back, that it goes on where it was stopped."""

import json
from functools import partial

import jax
import numpy as np
import pytest

import jann
from experiments import gan, generated_images
from experiments.generated_images import train_judge
from experiments.image_classification import Recipe

SMALL = {"epochs": 2, "widths": (8, 4), "latent": 6, "samples": 60}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    return train_judge(jann.data.load("digits"), folder, Recipe(epochs=1))


@pytest.fixture(autouse=True)
def quick_judge(judge, monkeypatch):
    monkeypatch.setattr(generated_images, "train_judge", lambda dataset, folder: judge)


def test_results_are_those_of_the_saved_generator(judge, tmp_path):
    gan.main(out=tmp_path / "run", **SMALL)
    (row,) = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    generator, params = jann.load(tmp_path / "run" / "seed-0")
    assert generator == jann.models.Generator(6, 8, 1, (8, 4), 10)
    asked = judge.asked(60)
    images = gan.generate_all(generator, params, asked, jann.fold(jax.random.key(0), "samples"))
    score = judge.score(images, asked)
    for name, value in score.items():
        assert np.isclose(row[f"test_{name}"]["mean"], value, rtol=1e-4), name
    assert score["frechet_distance"] > score["frechet_distance_real"] > 0, "two epochs do not make real images"
    for name in ("samples", "real", "path", "loss", "scores", "judged"):
        assert (tmp_path / "run" / f"{name}.png").exists(), name


def test_interrupted_goes_on_to_the_same_end(tmp_path, monkeypatch):
    options = {**SMALL, "loss": "wasserstein", "critic_steps": 2}
    monkeypatch.setattr(gan, "figures", lambda *_: None)
    gan.main(out=tmp_path / "whole", **options)
    fit = gan.jann.fit

    def fit_half(step, batches, train_state, n, **options):
        return fit(step, batches, train_state, n // 2, **options)

    monkeypatch.setattr(gan.jann, "fit", fit_half)
    with pytest.raises(SystemExit, match="130"):
        gan.main(out=tmp_path / "broken", **options)
    assert not (tmp_path / "broken" / "results.json").exists()
    monkeypatch.setattr(gan.jann, "fit", fit)
    gan.main(out=tmp_path / "broken", **options)
    assert (tmp_path / "broken" / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()


def test_interrupted_while_the_judge_trains_it_says_so_and_ends(tmp_path, monkeypatch, capsys):
    def interrupted(dataset, folder):
        assert folder == tmp_path / "judge-digits"
        raise KeyboardInterrupt

    monkeypatch.setattr(generated_images, "train_judge", interrupted)
    with pytest.raises(SystemExit, match="130"):
        gan.main(out=tmp_path / "run", **SMALL)
    assert capsys.readouterr().out.endswith(f"kept in {tmp_path / 'run'}, the same command goes on\n")
    assert not (tmp_path / "run" / "seed-0").exists()


def test_parts_of_samples_are_filled_up(judge):
    """However many are made at a time, the first ones are the same, and labels keep their places."""
    generator = jann.models.Generator(6, 8, 1, (8, 4), 10)
    make = partial(gan.generate_all, generator, generator.init(jax.random.key(0)), key=jax.random.key(1), size=8)
    labels = judge.asked(20)
    images = make(labels)
    assert images.shape == (20, 8, 8, 1) and images.min() >= 0 and images.max() <= 1
    np.testing.assert_array_equal(make(labels[:11]), images[:11])
