"""The first command of the README, small: what it writes, that it goes on, that equal runs write equal files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jann
from experiments.digits import prepare

pytestmark = pytest.mark.usefixtures("optimised")

ROOT = Path(__file__).parents[2]
SMALL = ["--steps", "80", "--seeds", "3", "--learning-rates", "0.01", "0.03", "--hidden", "16", "16"]


def command(out, *options):
    return [sys.executable, "-m", "experiments.digits", *SMALL, "--out", str(out), *options]


def run(out, *options):
    return subprocess.run(command(out, *options), cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "run"
    done = run(out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_table_and_results(finished):
    out, printed = finished
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [row["learning_rate"] for row in rows] == [0.01, 0.03]
    for row in rows:
        accuracy = row["test_accuracy"]
        assert len(accuracy["seeds"]) == 3 and accuracy["low"] < accuracy["mean"] < accuracy["high"]
        assert np.isclose(accuracy["mean"], np.mean(accuracy["seeds"]))
        assert accuracy["mean"] > 0.7, "80 steps are enough to learn most digits"
        assert f"{accuracy['mean']:.4f}" in printed


def test_the_model_comes_back(finished):
    out, _ = finished
    model, params = jann.load(out)
    assert model == jann.models.MLP(inputs=64, hidden=(16, 16), outputs=10, dropout=0.2)
    test = prepare(jann.data.load("digits").test)
    accuracy = float(jann.evaluate(jann.measure(model), params, test)["accuracy"])
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert any(np.isclose(accuracy, seed) for row in rows for seed in row["test_accuracy"]["seeds"])


def test_metrics_and_pictures(finished):
    out, _ = finished
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 3 * 40 and rows[0]["step"] == 2 and rows[-1]["step"] == 80
    assert np.mean([r["train_loss"] for r in rows if r["step"] == 80]) < 0.7 * rows[0]["train_loss"]
    for name in ("validation_accuracy", "loss", "confusion", "mistakes", "network"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_again_repeats_nothing(finished):
    out, _ = finished
    before = (out / "results.json").read_bytes()
    chunks = {file: file.stat().st_mtime_ns for file in (out / "sweep" / "chunks").iterdir()}
    assert run(out).returncode == 0
    assert (out / "results.json").read_bytes() == before
    assert {file: file.stat().st_mtime_ns for file in (out / "sweep" / "chunks").iterdir()} == chunks


def test_another_configuration_is_refused(finished):
    out, _ = finished
    refused = run(out, "--batch-size", "32")
    assert refused.returncode != 0
    assert "batch_size was 64, is 32" in refused.stderr
    assert "--out" in refused.stderr or "choose another" in refused.stderr


def test_interrupted_and_gone_on_equals_unbroken(finished, tmp_path):
    out = tmp_path / "run"
    longer = ["--steps", "400", "--seeds", "12"]
    process = subprocess.Popen(command(out, *longer), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while not list(out.glob("sweep/chunks/*.npz")):
        assert process.poll() is None, "it ended before a chunk was finished"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=120)[0]
    kept = sorted(file.name for file in out.glob("sweep/chunks/*.npz"))
    assert "interrupted" in printed and process.returncode == 130 and 1 <= len(kept) < 3, kept
    assert not (out / "results.json").exists()
    assert run(out, *longer).returncode == 0
    unbroken = tmp_path / "unbroken"
    assert run(unbroken, *longer).returncode == 0
    assert (out / "results.json").read_bytes() == (unbroken / "results.json").read_bytes()
