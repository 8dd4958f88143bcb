"""The experiment, small: what it teaches moves with the images, it finds and counts, goes on, refuses what is wrong."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from experiments import detection
from jann.boxes import Detections

pytestmark = pytest.mark.usefixtures("optimised")


def test_boxes_move_with_their_images():
    change = detection.Changed(lambda batch: {**batch, "image": batch["image"].astype(jnp.float32)}, 1, 5, True)
    box = np.array([[8.0, 12, 20, 32]], np.float32)
    image = np.zeros((40, 40, 48, 1), np.uint8)
    image[:, 8:20, 12:32] = 200
    batch = {"image": image, "box": np.tile(box, (40, 1, 1)), "label": np.zeros((40, 1), np.int32)}
    made = jax.jit(change)(batch, jax.random.key(0))
    places = set()
    for i in range(40):
        inside = np.argwhere(np.asarray(made["image"][i, ..., 0]) > 60)
        top, left = inside.min(0)
        bottom, right = inside.max(0) + 1
        middle = 4 * (made["place"][i, 0] + made["offset"][i, 0])
        np.testing.assert_allclose(middle, [(top + bottom) / 2, (left + right) / 2], atol=1e-3)
        np.testing.assert_allclose(4 * made["size"][i, 0], [bottom - top, right - left], atol=1e-3)
        places.add((top, left))
    assert len(places) > 20
    plain = change(batch)
    np.testing.assert_allclose(4 * (plain["place"] + plain["offset"])[:, 0], np.tile([14, 22], (40, 1)))


def test_what_leaves_the_image_is_not_asked_for():
    change = detection.Changed(lambda batch: batch, 1, 0, False)
    box = np.array([[[-30.0, 0, 10, 10], [-4, 0, 10, 10]]], np.float32)
    batch = {"image": np.zeros((1, 32, 32, 1), np.float32), "box": box, "label": np.zeros((1, 2), np.int32)}
    made = change(batch)
    assert made["there"].tolist() == [[0, 1]] and made["size"][0, 1].tolist() == [2.5, 2.5]


def test_counts_and_thresholds():
    part = {"box": np.array([[[0, 0, 4, 4], [8, 8, 12, 12.0]]]), "label": np.array([[0, 1]])}
    found = Detections(
        np.array([[[0, 0, 4, 4], [8, 8, 12, 12], [0, 8, 4, 12.0]]]), np.array([[0, 1, 1]]), np.array([[0.9, 0.6, 0.4]])
    )
    thresholds = detection.thresholds_of(found, part, ("a", "b"))
    assert thresholds[1] == pytest.approx(0.5) and 0 < thresholds[0] < 0.9
    assert detection.counted(found, part, ("a", "b"), thresholds).tolist() == [1, 1]
    assert detection.counted(found, part, ("a", "b"), np.zeros(2)).tolist() == [1, 0]
    assert detection.precisions(found, part, ("a", "b")).tolist() == [1, 1]


def test_it_finds_digits_and_goes_on(tmp_path, monkeypatch, capsys):
    options = {"steps": 100, "widths": (16, 32), "batch_size": 16, "learning_rate": 0.006, "out": tmp_path / "run"}
    whole = jann.fit
    monkeypatch.setattr(jann, "fit", lambda step, batches, state, n, **kept: whole(step, batches, state, 50, **kept))
    with pytest.raises(SystemExit) as ended:
        detection.main(**options)
    assert ended.value.code == 130
    monkeypatch.setattr(jann, "fit", whole)
    detection.main(**options)
    assert "holds 50 of 100 steps: it goes on" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "run/results.json").read_text())["rows"]
    assert 0.02 < row["map_50"]["mean"] < 1 and "ap_50/7" in row and "counted/0" in row
    for name in ("loss", "precision", "found"):
        assert (tmp_path / f"run/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert jann.load(tmp_path / "run/seed-0")[0] == jann.models.CenterNet(1, 10, (16, 32))
    history = [json.loads(line) for line in (tmp_path / "run/seed-0/metrics.jsonl").read_text().splitlines()]
    assert history[-1]["validation_loss"] < 0.8 * history[0]["validation_loss"]


def test_what_it_refuses(tmp_path):
    refused = {
        "--steps 15: give a multiple of 10": {"steps": 15},
        "--widths 8 12: give multiples of 8": {"widths": (8, 12)},
        "--shift -1: give 0 or more": {"shift": -1},
        "--widths 6 of them: images of 64 × 64 do not halve so often": {"widths": (8,) * 6},
    }
    for message, options in refused.items():
        with pytest.raises(SystemExit, match=message):
            detection.main(**options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
