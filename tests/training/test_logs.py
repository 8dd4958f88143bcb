"""What a run leaves for people to read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.training.logs import Log, Progress, RunFolderError, only_writer, open_run, write_json


def test_rows_are_json_lines_of_plain_numbers(tmp_path):
    log = Log(tmp_path)
    log.write({"step": 1, "loss": jnp.float32(0.5), "members": jnp.array([1.0, 2.0])})
    log.write({"step": 2, "loss": np.float64("nan"), "late": 3})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"step": 1, "loss": 0.5, "members": [1.0, 2.0]}
    history = log.history()
    np.testing.assert_array_equal(history["step"], [1, 2])
    np.testing.assert_array_equal(history["loss"], [0.5, np.nan])
    np.testing.assert_array_equal(history["members"], [[1.0, 2.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(history["late"], [np.nan, 3])


def test_rows_that_two_processes_wrote_are_kept_once(tmp_path):
    steps = [1, 1, 2, 3, 2, 3, 4]
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"step": {step}}}\n' for step in steps))
    log = Log(tmp_path)
    log.resume(3)
    assert log.rows == [{"step": step} for step in (1, 2, 3)]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_resuming_keeps_whole_rows_up_to_the_step(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a": 3}\n{"st')
    log = Log(tmp_path)
    log.resume(2)
    log.write({"step": 3, "a": 9})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 3, "a": 9}] == log.rows


def test_a_run_folder_is_opened_again_by_the_same_configuration_only(tmp_path):
    folder = open_run(tmp_path / "a" / "b", {"learning_rate": 0.1, "hidden": (8, 8)})
    assert json.loads((folder / "config.json").read_text()) == {"learning_rate": 0.1, "hidden": [8, 8]}
    assert open_run(folder, {"learning_rate": 0.1, "hidden": (8, 8)}) == folder
    (folder / "metrics.jsonl").touch()
    with pytest.raises(RunFolderError, match=r"another configuration \(learning_rate was 0.1, is 0.2, seed was None"):
        open_run(folder, {"learning_rate": 0.2, "hidden": (8, 8), "seed": 1})
    assert json.loads((folder / "config.json").read_text())["learning_rate"] == 0.1
    (folder / "config.json").write_text('{"learning_rate"')
    with pytest.raises(RunFolderError, match=r"config.json is not whole JSON \(.*\): delete that file"):
        open_run(folder, {})


def test_a_model_that_gained_a_field_goes_on_and_another_does_not(tmp_path):
    model = jann.models.MLP(4, (8,), 3)
    older = jann.to_json(model)
    del older["fields"]["activation"]  # as if written before there was a choice
    folder = open_run(tmp_path, {"models": [older], "seed": 0})
    assert open_run(folder, {"models": [jann.to_json(model)], "seed": 0}) == folder
    (folder / "metrics.jsonl").touch()
    with pytest.raises(RunFolderError, match="another configuration"):
        open_run(folder, {"models": [jann.to_json(jann.models.MLP(4, (8,), 3, activation=jax.nn.tanh))], "seed": 0})


def test_a_folder_in_which_nothing_was_measured_takes_another_configuration(tmp_path):
    open_run(tmp_path, {"batch_size": 0})
    open_run(tmp_path / "seed-0", {"name": "MLP"}, "model.json")
    with only_writer(tmp_path / "seed-0"):
        pass
    open_run(tmp_path, {"batch_size": 32})
    assert json.loads((tmp_path / "config.json").read_text()) == {"batch_size": 32}
    (tmp_path / "seed-0" / "metrics.jsonl").touch()
    with pytest.raises(RunFolderError, match="another configuration"):
        open_run(tmp_path, {"batch_size": 64})


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot write the run folder .*file/run: .*; choose another"):
        open_run(tmp_path / "file" / "run", {})


def test_json_is_replaced_whole(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_tensorboard_needs_a_folder():
    with pytest.raises(ValueError, match="tensorboard=True needs a folder for the event files"):
        Log(None, tensorboard=True)


def test_progress_can_be_silent(capsys):
    with Progress("sweep", 3, show=False) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")
    with Progress("sweep", 3) as bar:
        for i in range(4):
            bar.update(i, "note")
    assert capsys.readouterr().out.splitlines() == ["sweep: 0/3  note", "sweep: 3/3  note"]  # not a line a step
    assert jann.RunFolderError is RunFolderError


def test_names_are_shown_as_they_are_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with Progress("training [/s]", 1) as bar:
        bar.update(1, "loss [m] 0.1 [/m]")
    said = capsys.readouterr().out
    assert "training [/s]" in said and "loss [m] 0.1 [/m]" in said


def test_json_is_strict_also_where_an_interval_is_missing(tmp_path):
    write_json(tmp_path / "a.json", {"rows": [{"low": float("nan"), "high": float("inf"), "mean": 1.0, "n": (1, 2)}]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "rows": [{"low": None, "high": None, "mean": 1.0, "n": [1, 2]}]
    }
