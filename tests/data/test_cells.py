"""Cells and membranes: the published slices, drawn ones, damaged files."""

import zipfile

import numpy as np
import pytest

import jann.data
from jann.data import DataError, MissingData


def test_isbi_slices_are_the_published_ones(real_data):
    dataset = jann.data.load("isbi2012")
    assert [len(part["label"]) for part in (dataset.train, dataset.validation, dataset.test)] == [20, 4, 6]
    assert dataset.train["image"].shape == (20, 512, 512, 1) and dataset.train["image"].dtype == np.uint8
    labels = np.concatenate([part["label"] for part in (dataset.train, dataset.validation, dataset.test)])
    assert set(np.unique(labels)) == {0, 1} and round(labels.mean(), 2) == 0.78
    assert dataset.train["image"][dataset.train["label"] == 0].mean() < 100  # membranes are dark


def test_drawn_cells_are_closed_and_not_to_be_told_by_brightness():
    from scipy import ndimage

    dataset = jann.data.load("synthetic_cells")
    again = jann.data.load("synthetic_cells")
    np.testing.assert_array_equal(dataset.test["image"], again.test["image"])
    image, label = dataset.train["image"][..., 0], dataset.train["label"]
    counts = [ndimage.label(each)[1] for each in label]
    assert 30 < min(counts) and max(counts) < 90
    errors = [((image > threshold) != label).mean() for threshold in range(60, 180, 5)]
    assert 0.06 < min(errors) < 0.2


def test_missing_and_damaged_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    with pytest.raises(MissingData, match=r"isbi2012_membrane.zip is missing and cannot be downloaded \(ISBI 2012"):
        jann.data.load("isbi2012")
    path = tmp_path / "segmentation/isbi2012_membrane.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("isbi2012_membrane/image/0.png", b"cut")
    with pytest.raises(DataError, match="isbi2012_membrane.zip cannot be read"):
        jann.data.load("isbi2012")
