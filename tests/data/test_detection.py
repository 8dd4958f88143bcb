"""Images with boxes: the published counts of BCCD, digits where their boxes are, damaged files."""

import zipfile

import numpy as np
import pytest

import jann.data
from jann.data import DataError, MissingData
from jann.data.detection import padded_boxes


def test_bccd_has_its_published_counts(real_data):
    data = jann.data.load("bccd")
    parts = data.train, data.validation, data.test
    assert [len(part["image"]) for part in parts] == [205, 87, 72]
    labels = np.concatenate([part["label"].ravel() for part in parts])
    assert [int((labels == k).sum()) for k in range(3)] == [4155, 372, 361]
    boxes = np.concatenate([part["box"][part["label"] >= 0] for part in parts])
    assert (boxes[:, :2] <= boxes[:, 2:]).all() and boxes.min() >= 0
    assert boxes[:, 2].max() <= 192 and boxes[:, 3].max() <= 256
    # White cells are stained: inside of their boxes green is darker than elsewhere.
    inside, outside = [], []
    for image, box, label in zip(*data.test.values(), strict=True):
        if (label != 1).all():
            continue
        top, left, bottom, right = box[label == 1][0].astype(int)
        inside.append(image[top:bottom, left:right, 1].mean())
        outside.append(image[..., 1].mean())
    assert np.mean(inside) < np.mean(outside) - 15


def test_digits_are_in_their_boxes_and_nothing_else_is():
    data = jann.data.load("scattered_digits")
    assert repr(data).startswith("Boxes('scattered_digits': train 256 with")
    for image, box, label in zip(*data.test.values(), strict=True):
        here = np.zeros((64, 64), bool)
        for top, left, bottom, right in box[label >= 0].astype(int):
            assert 6 <= bottom - top <= 16 and 4 <= right - left <= 16
            here[top:bottom, left:right] = True
        assert image[here].mean() > 80 and image[~here].mean() < 30 and (image[~here] > 140).mean() < 0.001
    assert (data.test["box"][data.test["label"] < 0] == 0).all()


def test_missing_and_damaged_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    with pytest.raises(MissingData, match=r"BCCD.zip is missing and cannot be downloaded \(BCCD, github.com"):
        jann.data.load("bccd")
    path = tmp_path / "detection/BCCD.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("BCCD/ImageSets/Main/train.txt", "one")
    with pytest.raises(DataError, match="BCCD.zip cannot be read"):
        jann.data.load("bccd")


def test_padding_is_no_box():
    part = padded_boxes([np.ones((1, 4)), np.zeros((0, 4))], [np.array([2]), np.array([], int)], 2)
    assert part["label"].tolist() == [[2, -1], [-1, -1]] and part["box"].sum() == 4
