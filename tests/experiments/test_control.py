"""The experiment, small: what it learns and writes, that it repeats nothing, what it refuses."""

import json

import jax
import numpy as np
import pytest

import jann
from experiments import control

pytestmark = pytest.mark.usefixtures("optimised")


def test_it_learns_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jann, "cpu_devices", lambda: None)
    options = {"learning_rates": (0.003,), "env_steps": 80_000, "seeds": 2, "episodes": 20, "out": tmp_path / "run"}
    control.main(**options)
    (row,) = json.loads((tmp_path / "run/results.json").read_text())["rows"]
    assert row["test_return"]["mean"] > 300 and row["env_steps"] == 81_920
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 20 and lines[19]["env_steps"] == 81_920 and lines[0]["return"] < 100 < lines[19]["return"]
    model, params = jann.load(tmp_path / "run")
    assert model == jann.models.ActorCritic(4, 2)
    for name in ("returns", "episode"):
        assert (tmp_path / f"run/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "chosen in training: learning rate 0.003" in capsys.readouterr().out
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run/sweep/chunks").iterdir()}
    control.main(**options)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run/sweep/chunks").iterdir()} == before
    act = jann.control.actor(model, params, greedy=True)
    joints, total = control.shown(control.ENVIRONMENTS["cartpole"], act, jax.random.key(5))
    assert joints.shape == (round(total), 2, 2) and np.isfinite(joints).all()


def test_what_it_refuses(tmp_path):
    with pytest.raises(SystemExit, match="--method dqn chooses among a few actions, and pendulum takes a number"):
        control.main(environment="pendulum", method="dqn", out=tmp_path / "run")
    with pytest.raises(SystemExit, match="--env-steps 1000: give at least 80000"):
        control.main(env_steps=1000, out=tmp_path / "run")
    with pytest.raises(SystemExit, match="--learning-rates 0: give more than 0"):
        control.main(learning_rates=(0.0,), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
