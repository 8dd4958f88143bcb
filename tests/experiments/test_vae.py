"""The VAE experiment, small: binarisation, both bounds, that it goes on where it was stopped."""

import json

import jax
import numpy as np
import pytest

import jann
from experiments import vae
from experiments.vae import Prepare, bounds_of, main

SMALL = {"hidden": (16,), "epochs": 10, "importance_samples": 20}


def test_pixels_are_on_with_their_grey_value_as_probability(key):
    prepare = Prepare(16.0, True)
    grey = np.full((4000, 1, 3, 1), [[[0], [4], [16]]], np.uint8)
    drawn = prepare({"image": grey, "label": np.zeros(4000)}, key)["image"]
    assert drawn.shape == (4000, 3) and set(np.unique(drawn)) == {0, 1}
    np.testing.assert_allclose(drawn.mean(0), [0, 0.25, 1], atol=0.03)
    assert np.any(drawn != prepare({"image": grey, "label": 0}, jax.random.key(1))["image"])
    np.testing.assert_allclose(Prepare(16.0, False)({"image": grey}, key)["image"][0], [0, 0.25, 1])


@pytest.mark.parametrize("options", [{"latent": 2}, {"conditional": True, "likelihood": "gaussian", "latent": 3}])
def test_results_are_those_of_the_saved_model(options, tmp_path):
    main(out=tmp_path, **SMALL, **options)
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    means = {name[5:]: value["mean"] for name, value in row.items() if name.startswith("test_")}
    np.testing.assert_allclose(means["elbo"], means["reconstruction"] - means["kl"], rtol=1e-5)
    assert means["kl"] > 0 and means["importance_bound"] > means["elbo"]
    model, params = jann.load(tmp_path / "seed-0")
    dataset = jann.data.load("digits")
    test = Prepare(16.0, model.likelihood == "bernoulli")(dataset.test, jann.fold(jax.random.key(0), "test"))
    again = jann.evaluate(bounds_of(model, jax.random.key(0)), params, test)
    np.testing.assert_allclose(again["elbo"], means["elbo"], rtol=1e-4)
    pictures = {file.stem for file in tmp_path.glob("*.png")}
    plane = {"plane", "latents"} if model.latent == 2 else set()
    assert pictures == {"elbo", "samples", "reconstructions", "traversals"} | plane
    if model.likelihood == "bernoulli":
        assert means["elbo"] > -44, "64 coins of probability one half cost 44.4 nats"


def test_interrupted_goes_on_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr(vae, "figures", lambda *_: None)
    main(out=tmp_path / "whole", **SMALL)
    fit = vae.jann.fit

    def fit_half(step, batches, train_state, n, **options):
        return fit(step, batches, train_state, n // 2, **options)

    monkeypatch.setattr(vae.jann, "fit", fit_half)
    with pytest.raises(SystemExit, match="130"):
        main(out=tmp_path / "broken", **SMALL)
    assert not (tmp_path / "broken" / "results.json").exists()
    monkeypatch.setattr(vae.jann, "fit", fit)
    main(out=tmp_path / "broken", **SMALL)
    assert (tmp_path / "broken" / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()
