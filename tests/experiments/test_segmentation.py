"""The experiment on drawn cells, small: it beats a guess, goes on where it was, refuses what is wrong."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from experiments import segmentation

pytestmark = pytest.mark.usefixtures("optimised")


def test_it_tells_cells_from_membranes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(segmentation, "THRESHOLDS", np.array([0.5, 0.6]))
    options = {"steps": 60, "widths": (8, 16), "window": 32, "batch_size": 8, "out": tmp_path / "run"}
    stopped = jann.fit

    def stop_early(step, batches, state, n, **kept):
        return stopped(step, batches, state, 30, **kept)

    monkeypatch.setattr(jann, "fit", stop_early)
    with pytest.raises(SystemExit) as ended:
        segmentation.main(**options)
    assert ended.value.code == 130
    monkeypatch.setattr(jann, "fit", stopped)
    segmentation.main(**options)
    assert "holds 30 of 60 steps: it goes on" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "run/results.json").read_text())["rows"]
    assert row["pixel_error"]["mean"] < 0.13 < row["all_cell_error"]
    assert row["rand_f_score"]["mean"] > 0.6 and row["membrane_iou"]["mean"] > 0.7
    assert (tmp_path / "run/segments.png").is_file() and (tmp_path / "run/loss.png").is_file()
    assert jann.load(tmp_path / "run/seed-0")[0] == jann.models.SegmentationUNet(widths=(8, 16))


def test_the_mean_over_symmetries_turns_with_the_image():
    model = jann.models.SegmentationUNet(widths=(8, 8))
    params = model.init(jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), (1, 8, 8, 1))
    found = segmentation.probabilities(model, params, image)
    for turned in (lambda x: jnp.rot90(x, 1, (1, 2)), lambda x: x[:, ::-1]):
        np.testing.assert_allclose(segmentation.probabilities(model, params, turned(image)), turned(found), atol=1e-5)
    assert np.abs(jax.nn.softmax(model(params, image))[..., 1] - found).max() > 1e-4


def test_images_and_labels_move_together():
    dataset = jann.data.load("synthetic_cells")
    parts = segmentation.Parts(lambda batch: {**batch, "image": batch["image"].astype(jnp.float32)}, 32, 2.0)
    label = dataset.train["label"]
    batch = jax.jit(parts)({"image": 10 * label[..., None], "label": label}, jax.random.key(0))
    assert batch["image"].shape == (24, 32, 32, 1) and batch["label"].shape == (24, 32, 32)
    for image, label in zip(batch["image"][..., 0], batch["label"], strict=True):
        assert image[label == 1].min() > image[label == 0].max()


def test_what_it_refuses(tmp_path):
    refused = {
        "--steps 15: give a multiple of 10": {"steps": 15},
        "--widths 8 12: give multiples of 8": {"widths": (8, 12)},
        "--window 30: give a multiple of 4, at most the images' 96 pixels": {"window": 30},
        "--bend -1: give 0 or more": {"bend": -1.0},
    }
    for message, options in refused.items():
        with pytest.raises(SystemExit, match=message):
            segmentation.main(**options, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
