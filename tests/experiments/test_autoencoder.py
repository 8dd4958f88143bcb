"""The autoencoder experiment, small: the baseline, what it writes, that it goes on where it was stopped."""

import json

import numpy as np
import pytest

import jann
from experiments import autoencoder
from experiments.autoencoder import Prepare, errors, hoyer, main

KINDS = ("dense", "convolutional", "denoising", "sparse")
SMALL = {"codes": (2,), "hidden": (16,), "widths": (4, 8), "epochs": 20, "seeds": 1}


def test_only_the_image_is_noisy_and_only_with_a_key(key):
    images = {"image": jann.data.load("digits").test["image"]}
    prepare = Prepare(16.0, True, 0.3)
    clean, noisy = prepare(images), prepare(images, key)
    np.testing.assert_array_equal(clean["image"], images["image"].reshape(-1, 64) / 16)
    np.testing.assert_array_equal(clean["image"], clean["target"])
    np.testing.assert_array_equal(noisy["target"], clean["target"])
    assert abs(np.std(noisy["image"] - clean["image"]) - 0.3) < 0.01


def test_sparsity_of_codes():
    np.testing.assert_allclose(hoyer(np.array([[0.0, 0, -3, 0]])), 1)
    np.testing.assert_allclose(hoyer(np.array([[1.0, -1, 1, 1]])), 0)
    np.testing.assert_allclose(hoyer(np.array([[3.0, 4, 0, 0]])), 2 - 7 / 5)
    np.testing.assert_allclose(hoyer(np.zeros((3, 4))), 1)
    assert hoyer(np.array([[2.0], [-1.0]])) == 0, "one unit is as large as all"


def test_results_stand_beside_principal_components(tmp_path):
    main(out=tmp_path, **SMALL)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    table = {(row["model"], row["code"]): row for row in rows}
    assert len(table) == 5
    dataset = jann.data.load("digits")
    flat = {name: getattr(dataset, name)["image"].reshape(-1, 64) / 16 for name in ("train", "test")}
    mean = flat["train"].mean(0)
    axes = np.linalg.svd(flat["train"] - mean, full_matrices=False)[2][:2]
    want = np.square((flat["test"] - mean) @ axes.T @ axes + mean - flat["test"]).mean()
    np.testing.assert_allclose(table["principal components", 2]["test_error"]["mean"], want, rtol=1e-3)
    variance = np.square(flat["test"] - mean).mean()
    for name in ("principal components", "dense", "convolutional", "denoising"):
        assert table[name, 2]["test_error"]["mean"] < variance, name
    model, params = jann.load(tmp_path / "denoising-2-seed-0")
    found = errors(model, params, dataset, Prepare(16.0, True, 0.3))
    np.testing.assert_allclose(found["test_error"], table["denoising", 2]["test_error"]["mean"], rtol=1e-4)
    drawn = {file.stem for file in tmp_path.glob("*.png")}
    planes = {f"{what}_{kind}" for what in ("codes", "plane") for kind in KINDS}
    assert drawn == {"error", "reconstructions", "from_noisy"} | planes


def test_without_hidden_layers_it_is_linear(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "figures", lambda *_: None)
    main(out=tmp_path, **{**SMALL, "hidden": (), "kinds": ("dense",), "epochs": 1})
    model, params = jann.load(tmp_path / "dense-2-seed-0")
    assert model.hidden == () and jann.count(model) == 64 * 2 + 2 + 2 * 64 + 64
    images = np.eye(64, dtype="float32")[:3]
    weight, bias = (np.asarray(params["decoder"]["layers"][0][name]) for name in ("weight", "bias"))
    codes = np.asarray(model.encode(params, images))
    np.testing.assert_allclose(model(params, images), codes @ weight + bias, rtol=1e-5)


@pytest.mark.parametrize("codes", [(2, 65), ()])
def test_more_components_than_pixels_and_no_codes_are_refused_at_once(codes, tmp_path):
    with pytest.raises(SystemExit, match="--codes .*: give"):
        main(out=tmp_path, **{**SMALL, "codes": codes})
    assert not list(tmp_path.iterdir())


def test_a_penalty_makes_codes_sparse(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "figures", lambda *_: None)
    options = {**SMALL, "codes": (16,), "penalty": "l1", "penalty_weight": 0.01}
    main(out=tmp_path, kinds=("dense", "sparse"), **options)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    sparsity = {row["model"]: row["test_sparsity"]["mean"] for row in rows}
    assert sparsity["sparse"] > sparsity["dense"] + 0.1


def test_interrupted_goes_on_to_the_same_end(tmp_path, monkeypatch):
    options = {**SMALL, "kinds": ("sparse",), "codes": (3,), "epochs": 5}
    monkeypatch.setattr(autoencoder, "figures", lambda *_: None)
    main(out=tmp_path / "whole", **options)
    fit = autoencoder.jann.fit

    def fit_half(step, batches, train_state, n, **options):
        return fit(step, batches, train_state, n // 2, **options)

    monkeypatch.setattr(autoencoder.jann, "fit", fit_half)
    with pytest.raises(SystemExit, match="130"):
        main(out=tmp_path / "broken", **options)
    assert not (tmp_path / "broken" / "results.json").exists()
    monkeypatch.setattr(autoencoder.jann, "fit", fit)
    main(out=tmp_path / "broken", **options)
    assert (tmp_path / "broken" / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()
