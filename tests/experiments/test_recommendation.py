"""The experiment on synthetic ratings, small: what it finds, that it repeats nothing, what it refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from experiments import recommendation

pytestmark = pytest.mark.usefixtures("optimised")


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    monkeypatch.setattr(jann, "cpu_devices", lambda: None)


def test_factors_beat_biases_and_near_the_noise(tmp_path, capsys):
    options = {"methods": ("biases", "factors"), "features": 8, "folds": 3, "out": tmp_path / "run"}
    recommendation.main(**options)
    biases, factors, noise = json.loads((tmp_path / "run/results.json").read_text())["rows"]
    assert noise["test_rmse"] == "0.5" and len(factors["test_rmse"]["seeds"]) == 3
    assert 0.5 < factors["test_rmse"]["mean"] < 0.75 < biases["test_rmse"]["mean"] < 1.05
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3 * 3 + 3 * 4
    chosen = [min((line for line in lines if line["method"] == "factors" and line["fold"] == fold),
                  key=lambda line: line["validation_rmse"]) for fold in range(3)]  # fmt: skip
    np.testing.assert_allclose([line["test_rmse"] for line in chosen], factors["test_rmse"]["seeds"])
    model, params = jann.load(tmp_path / "run")
    data = jann.data.load("synthetic_ratings")
    error = np.sqrt(np.mean((np.asarray(model(params, data.user, data.item)) - data.rating) ** 2))
    assert error < factors["test_rmse"]["mean"]  # it was trained on them
    assert (tmp_path / "run/training.png").is_file() and (tmp_path / "run/weights_factors.png").is_file()
    told = capsys.readouterr().out
    likes = np.array(model(params, jnp.zeros(150, int), jnp.arange(150)))
    likes[data.item[data.user == 0]] = -np.inf
    assert f"and would like: item {likes.argmax()} (" in told
    before = (tmp_path / "run/results.json").read_bytes()
    recommendation.main(**options)
    assert (tmp_path / "run/results.json").read_bytes() == before


def test_what_is_judged_is_never_trained_on():
    data, seen = jann.data.load("synthetic_ratings"), []

    class Spy:
        def train(self, key, weight, data, trained):
            seen.append(np.asarray(trained))
            return None, (jnp.asarray(data.rating) + 1 - trained)[None]  # right only where it was trained

    folds = data.folds(5)
    for choosing in (1.0, 0.0):
        found = recommendation.experiment(jax.random.key(0), 2.0, 0.1, choosing, Spy(), data, folds)
        np.testing.assert_allclose(found["rmse"], 1, atol=0.03)  # but for what is cut off at the highest rating
    held, whole = seen
    assert (whole == (folds != 2)).all() and (held <= whole).all()
    assert 0.08 < 1 - held.sum() / whole.sum() < 0.12


def test_what_it_refuses(tmp_path):
    with pytest.raises(SystemExit, match="--folds 1: give at least two"):
        recommendation.main(folds=1, out=tmp_path / "run")
    with pytest.raises(SystemExit, match="--user 200: give from 0 to 199"):
        recommendation.main(user=200, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
