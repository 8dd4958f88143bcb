"""The Olivetti faces from their file, and the drawn ones."""

import hashlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

import jann.data
from jann.data.faces import synthetic_faces


def test_olivetti_are_the_published_ones(real_data):
    faces = jann.data.load("olivetti")
    assert faces.images.shape == (40, 10, 64, 64, 1) and faces.images.dtype == np.uint8
    assert repr(faces) == "Faces('olivetti': 40 people, 10 photographs of each, 64 × 64)"
    table = loadmat(real_data / "faces/olivettifaces.mat")["faces"]
    for person, photograph in ((0, 0), (7, 3), (39, 9)):
        upright = table[:, 10 * person + photograph].reshape(64, 64, order="F")
        np.testing.assert_array_equal(faces.images[person, photograph, ..., 0], upright)


def test_a_missing_file_says_how_to_get_it(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise OSError

    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    monkeypatch.setattr("pooch.retrieve", unreachable)
    with pytest.raises(jann.data.MissingData, match="roweis/data/olivettifaces.mat cannot be reached: download it by"):
        jann.data.load("olivetti")


def test_an_altered_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    path = tmp_path / "faces/olivettifaces.mat"
    path.parent.mkdir()
    path.write_bytes(b"no MATLAB file" * 20)
    with pytest.raises(jann.data.DataError, match="olivettifaces.mat cannot be read .*is truncated or altered"):
        jann.data.load("olivetti")
    savemat(path, {"other": np.zeros(3)})
    with pytest.raises(jann.data.DataError, match="cannot be read .*with a variable faces"):
        jann.data.load("olivetti")
    savemat(path, {"faces": np.zeros((4096, 400), np.uint8)})
    with pytest.raises(jann.data.DataError, match="has pictures of sha256 .*, expected b119468c"):
        jann.data.load("olivetti")


def test_drawn_faces_are_always_alike_and_can_be_told_apart():
    faces = jann.data.load("synthetic_faces")
    assert faces.images.shape == (40, 10, 32, 32, 1) and faces.images.dtype == np.uint8
    few = synthetic_faces(people=3)
    np.testing.assert_array_equal(few.images, faces.images[:3], "people are drawn one after another")
    assert hashlib.sha256(faces.images.tobytes()).hexdigest() != hashlib.sha256(
        synthetic_faces(seed=1).images.tobytes()
    ).hexdigest()
    pixels = faces.images.reshape(400, -1) / 255
    away = ((pixels[:, None, ::4] - pixels[None, :, ::4]) ** 2).sum(-1)
    np.fill_diagonal(away, np.inf)
    found = (away.argmin(1) // 10 == np.arange(400) // 10).mean()
    assert 0.3 < found < 0.9, "the nearest picture is often of the same person, where 1 in 44 would be by chance"
