"""Transfer at tiny size: what each way may change, that few examples stay few, and that the gain is that of pairs."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from experiments import transfer_images
from experiments.transfer_images import Settings, by_class, classes_of, few, rows_of, trained
from jann.models import MLP, ViT

MODEL = ViT(8, 2, 1, embed=24, layers=1, heads=2, hidden=24, outputs=5)
SETTINGS = Settings(120, 40, 32, 5e-3, 2e-2, 0.01, 0)


def halves():
    whole = jann.data.load("digits")
    return classes_of(whole, (0, 1, 2, 3, 4)), classes_of(whole, (9, 8, 7, 6, 5))


def test_classes_are_parted_and_numbered_anew():
    whole, (first, second) = jann.data.load("digits"), halves()
    assert second.classes == ("9", "8", "7", "6", "5")
    assert len(first.train["label"]) + len(second.train["label"]) == len(whole.train["label"])
    wanted = whole.test["image"][whole.test["label"] == 8]
    np.testing.assert_array_equal(second.test["image"][second.test["label"] == 1], wanted)
    assert first.standardise == second.standardise == whole.standardise


def test_batches_hold_the_first_examples_of_each_class_and_no_other(key):
    _, target = halves()
    rows = by_class(target.train["label"], 5)
    assert (target.train["label"][rows] == np.arange(5)[:, None]).all()
    assert rows.shape[1] == np.bincount(target.train["label"]).min()
    split = {"image": jnp.arange(len(target.train["label"]))[:, None, None, None]}
    make = jax.jit(partial(few, split, jnp.asarray(rows), 200, lambda batch, key: batch, key))
    batch = make(0, count=3)
    np.testing.assert_array_equal(target.train["label"][batch["image"].ravel()], batch["label"])
    assert set(batch["image"].ravel().tolist()) == set(rows[:, :3].ravel().tolist())
    assert (make(1, count=3)["label"] != batch["label"]).any()


def test_the_last_layer_alone_changes(key, drawn):
    model = MLP(3, (4,), 2)
    params = drawn(model)
    batch = {"image": np.random.default_rng(0).normal(size=(8, 3)).astype("float32"), "label": np.arange(8) % 2}
    after = trained(model, params, "^layers/1/", 1e-2, lambda step: batch, 3, SETTINGS, key)
    before = jann.flatten(params)
    changed = {path for path, leaf in jann.flatten(after).items() if np.any(leaf != before[path])}
    assert changed == {"layers/1/weight", "layers/1/bias"}


def test_no_steps_of_pre_training_leave_the_body_as_it_was_drawn(key, drawn, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(transfer_images, "run", lambda *args: asked.extend(args))
    monkeypatch.setattr(jann, "cpu_devices", lambda: None)  # which comes before JAX is first used
    transfer_images.main(pretraining_steps=0, out=tmp_path)
    assert asked[3] == (1, 5, 20, 100) and asked[4].pretraining_steps == 0
    params = drawn(MODEL)
    assert trained(MODEL, params, "", 1e-2, None, 0, asked[4], key) is params
    with pytest.raises(SystemExit, match="--pretraining-steps -1: give 0"):
        transfer_images.main(pretraining_steps=-1, out=tmp_path)
    with pytest.raises(SystemExit, match=r"--counts \(\)"):
        transfer_images.main(counts=(), out=tmp_path)


def test_the_gain_is_that_of_the_same_seed():
    accuracy = {"from scratch": np.array([[0.1], [0.5]]), "fine-tuned": np.array([[0.4], [0.7]])}
    scratch, tuned = rows_of(accuracy, (3,))
    assert scratch["gain_over_scratch"]["seeds"] == [0, 0]
    np.testing.assert_allclose(tuned["gain_over_scratch"]["seeds"], [0.3, 0.2])
    np.testing.assert_allclose(tuned["test_accuracy"]["mean"], 0.55)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("transfer_images") / "run"
    run = partial(transfer_images.run, out, "halves", (*halves(), MODEL), (1, 20), SETTINGS, 2, 3)
    run()
    return out, run


def test_the_results_are_whole_and_the_body_is_the_one_reported(finished):
    out, _ = finished
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [(row["way"], row["examples_a_class"]) for row in rows] == [
        (way, count) for count in (1, 20) for way in transfer_images.WAYS
    ]
    by_way = {(row["way"], row["examples_a_class"]): row["test_accuracy"]["mean"] for row in rows}
    assert by_way["fine-tuned", 20] > by_way["fine-tuned", 1]
    assert by_way["fine-tuned", 20] > 0.4, "twice chance"
    source, _ = halves()
    model, params = jann.load(out)
    found = jann.evaluate(jann.measure(model), params, source.test, transform=source.standardise)["accuracy"]
    np.testing.assert_allclose(rows[0]["source_accuracy"]["seeds"][0], found, rtol=1e-6)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3 * 2 * 2
    for name in ("accuracy", "classes"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_the_same_command_repeats_nothing(finished, monkeypatch):
    out, run = finished
    before = (out / "results.json").read_bytes()
    monkeypatch.setattr(jann, "train", None)  # would fail if anything was trained
    run()
    assert (out / "results.json").read_bytes() == before


def test_more_examples_than_there_are(tmp_path):
    with pytest.raises(SystemExit, match="from 1 to"):
        transfer_images.run(tmp_path, "halves", (*halves(), MODEL), (10_000,), SETTINGS, 2, 3)
