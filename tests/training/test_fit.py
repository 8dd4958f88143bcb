"""The usual loop: what it leaves behind, where it stops, and that it goes on as if it had never stopped."""

import json
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.models import MLP
from jann.training.fit import Interrupt
from jann.trees import copied

MODEL = MLP(inputs=4, hidden=(8,), outputs=3)
OPTIMIZER = optax.adamw(1e-2)
STEP = jann.make_step(jann.objective(MODEL, inputs="x"), OPTIMIZER)


def batches(step):
    x = jax.random.normal(jax.random.fold_in(jax.random.key(9), step), (16, 4))
    return {"x": x, "label": (x[:, 0] > 0).astype(jnp.int32) + (x[:, 1] > 0)}


def start(seed=0):
    return jann.start(MODEL, OPTIMIZER, jax.random.key(seed))


def fit(n=20, train_state=None, **options):
    return jann.fit(STEP, batches, start() if train_state is None else train_state, n, **{"progress": False, **options})


def assert_bits(a, b):
    def data(x):
        return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(data(x), data(y)), a, b)


def scripted(values, name="score"):
    """An evaluation that gives the listed values in turn, whatever it is shown."""
    left = iter(values)
    return lambda train_state: {name: next(left)}


def test_fit_is_chunks_with_the_history_of_their_means():
    end, history = fit(20, every=5)
    rows, losses = [], []
    for train_state, metrics in jann.chunks(STEP, batches, start(), 20, 5):
        rows.append(int(train_state.step))
        losses.append(np.mean(metrics["loss"]))
    assert_bits(end, train_state)
    assert history["step"].tolist() == rows == [5, 10, 15, 20]
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)
    assert history["loss"][-1] < history["loss"][0]


def test_the_run_folder_is_for_people_and_programs(tmp_path):
    end, history = fit(20, every=5, folder=tmp_path, model=MODEL, evaluate=scripted([1.0, 2.0, 3.0, 4.0]))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert [row["score"] for row in rows] == [1.0, 2.0, 3.0, 4.0]
    np.testing.assert_array_equal([row["loss"] for row in rows], history["loss"])
    model, params = jann.load(tmp_path)
    assert model == MODEL
    assert_bits(params, end.params)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".lock", "checkpoints", "metrics.jsonl", "model.json", "model.safetensors"]


def test_ten_and_ten_are_twenty_through_a_folder(tmp_path):
    whole, history = fit(20, every=5)
    fit(10, every=5, folder=tmp_path)
    # the same command with more steps goes on; what it is given is only the form of a state
    end, resumed = fit(20, train_state=start(seed=5), every=5, folder=tmp_path)
    assert_bits(end, whole)
    np.testing.assert_array_equal(resumed["loss"], history["loss"])
    again, _ = fit(20, every=5, folder=tmp_path)  # finished: nothing is done again
    assert_bits(again, whole)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_longer_run_that_was_cut_short_loads_its_last_checkpoint(tmp_path):
    fit(10, every=5, folder=tmp_path, model=MODEL)
    assert (tmp_path / "model.safetensors").exists()

    def die(train_state):
        if int(train_state.step) == 20:
            raise SystemExit

        return {}

    with pytest.raises(SystemExit):
        fit(20, every=5, save_every=5, folder=tmp_path, model=MODEL, evaluate=die)
    _, params = jann.load(tmp_path)
    assert_bits(params, fit(15)[0].params)


def test_what_a_folder_holds_is_said(tmp_path, capsys):
    ends = [fit(n, every=5, folder=tmp_path, progress=True)[0] for n in (5, 10, 10)]
    said = capsys.readouterr().out
    assert f"{tmp_path} holds 5 of 10 steps: it goes on" in said
    assert f"{tmp_path} holds 10 of 10 steps: nothing is trained" in said
    assert_bits(ends[1], ends[2])


def test_a_model_without_parameters_is_fitted_too():
    def nothing(params, batch, key, extra=None):
        return batch["x"].mean(), ({}, extra)

    train_state = jann.TrainState.start(jax.random.key(0), {}, OPTIMIZER)
    _, history = jann.fit(jann.make_step(nothing, OPTIMIZER), batches, train_state, 2, every=1, progress=False)
    assert len(history["loss"]) == 2


def test_a_folder_with_more_steps_than_asked_for_says_so(tmp_path):
    longer, _ = fit(20, folder=tmp_path)
    with pytest.warns(UserWarning, match="already holds 20 steps, more than the 10 asked for"):
        shorter, _ = fit(10, folder=tmp_path)
    assert_bits(longer, shorter)


def test_rows_written_after_the_last_checkpoint_are_dropped(tmp_path):
    fit(10, every=5, folder=tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "loss": 99.0}\n{"step": 20, "lo')
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff")  # no text at all
    _, history = fit(20, every=5, folder=tmp_path)
    assert history["step"].tolist() == [5, 10, 15, 20]
    assert history["loss"].max() < 99


def test_an_ensemble_resumes_bit_for_bit(tmp_path):
    members = jax.vmap(lambda key: jann.start(MODEL, OPTIMIZER, key))(jax.vmap(jax.random.key)(jnp.arange(3)))
    whole, history = fit(20, members, every=5)
    fit(10, members, every=5, folder=tmp_path)
    shift = iter([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    end, resumed = fit(20, members, every=5, folder=tmp_path, evaluate=lambda s: {"late": next(shift)})
    assert_bits(end, whole)
    assert history["loss"].shape == (4, 3)
    np.testing.assert_array_equal(resumed["loss"], history["loss"])
    np.testing.assert_array_equal(np.isnan(resumed["late"]), [[True] * 3] * 2 + [[False] * 3] * 2)
    alone, own = fit(20, start(seed=1), every=5)
    np.testing.assert_allclose(history["loss"][:, 1], own["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-6), whole.params, alone.params)


def test_patience_stops_and_the_best_checkpoint_is_kept(tmp_path, capsys):
    scores = [0.1, 0.5, 0.9, float("nan"), 0.3, 0.2, 0.1, 0.1]
    end, history = fit(
        40, every=5, folder=tmp_path, evaluate=scripted(scores), best=("score", "max"), patience=3, keep=1
    )
    assert int(end.step) == 30  # three entries after the best, at step 15
    np.testing.assert_array_equal(history["score"], scores[:6])
    with jann.Checkpoints(tmp_path, keep=1, best=("score", "max")) as checkpoints:
        assert checkpoints.steps() == [15, 30]
        assert checkpoints.best_step() == 15
        best = checkpoints.restore(start(), step=15)
    assert_bits(best, fit(15, every=5)[0])
    # out of patience it stays, also when asked again
    again = fit(40, every=5, folder=tmp_path, best=("score", "max"), patience=3, keep=1, progress=True)[0]
    assert int(again.step) == 30 and f"{tmp_path} holds 30 of 40 steps: patience ended it" in capsys.readouterr().out


def test_the_best_is_still_known_in_a_resumed_run(tmp_path):
    options = {"every": 5, "folder": tmp_path, "best": ("score", "max"), "keep": 1}
    fit(10, evaluate=scripted([9.0, 1.0]), **options)
    fit(30, evaluate=scripted([2.0, 3.0, 4.0, 5.0]), **options)
    with jann.Checkpoints(tmp_path, keep=1, best=("score", "max")) as checkpoints:
        assert (checkpoints.steps(), checkpoints.best_step()) == ([5, 30], 5)


def test_the_best_may_be_the_smallest(tmp_path):
    fit(20, every=5, folder=tmp_path, evaluate=scripted([3.0, 1.0, 2.0, 4.0]), best=("score", "min"), keep=1)
    with jann.Checkpoints(tmp_path, keep=1, best=("score", "min")) as checkpoints:
        assert (checkpoints.steps(), checkpoints.best_step()) == ([10, 20], 10)


def test_checkpoints_come_at_the_pace_of_the_clock(tmp_path, monkeypatch):
    def steps_of(folder, **options):
        fit(20, every=5, keep=9, folder=folder, **options)
        with jann.Checkpoints(folder) as checkpoints:
            return checkpoints.steps()

    assert steps_of(tmp_path / "a quick run") == [5, 20]
    falling = scripted([3.0, 4.0, 2.0, 5.0])
    assert steps_of(tmp_path / "judged", evaluate=falling, best=("score", "min")) == [5, 15, 20]
    monkeypatch.setattr(jann.training.checkpoint, "SECONDS", 0.5)
    slow = steps_of(tmp_path / "slow", evaluate=lambda train_state: time.sleep(1.5) or {})
    assert slow == [5, 10, 15, 20]


def test_checkpoints_come_at_their_own_pace(tmp_path):
    fit(20, every=2, save_every=6, keep=9, folder=tmp_path)
    with jann.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [6, 12, 18, 20]


def test_tensorboard_reads_the_events(tmp_path):
    from tensorboardX.proto import event_pb2

    _, history = fit(20, every=5, folder=tmp_path, tensorboard=True)
    (file,) = (tmp_path / "tensorboard").iterdir()
    raw, values = file.read_bytes(), {}
    while raw:  # records: length (8), its checksum (4), the event, its checksum (4)
        size = int.from_bytes(raw[:8], "little")
        event = event_pb2.Event.FromString(raw[12 : 12 + size])
        values.update({(v.tag, event.step): v.simple_value for v in event.summary.value})
        raw = raw[size + 16 :]
    losses = [values["loss", step] for step in (5, 10, 15, 20)]
    np.testing.assert_allclose(losses, history["loss"], rtol=1e-6)


def test_an_interrupt_keeps_what_there_is(tmp_path, capsys):
    whole, _ = fit(20, every=5)
    before = signal.getsignal(signal.SIGINT)

    def interrupted(train_state):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return {}

    with Interrupt() as around:
        end, history = fit(20, every=5, folder=tmp_path, model=MODEL, evaluate=interrupted)
    assert around.asked  # so that a loop over runs ends as well
    assert int(end.step) == 5 and history["step"].tolist() == [5]
    assert "stopping after the present chunk; ctrl-C again stops at once" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    assert_bits(jann.load(tmp_path)[1], end.params)
    assert_bits(fit(20, every=5, folder=tmp_path, model=MODEL)[0], whole)


def test_a_second_interrupt_stops_at_once_and_loses_no_checkpoint(tmp_path):
    def impatient(train_state):
        if int(train_state.step) == 10:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return {}

    before = signal.getsignal(signal.SIGINT)  # a shell may have started us without heed to it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(20, every=5, folder=tmp_path, evaluate=impatient)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    with jann.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [5]
    assert_bits(fit(20, every=5, folder=tmp_path)[0], fit(20, every=5)[0])


def test_fit_works_outside_the_main_thread():
    ends = []
    thread = threading.Thread(target=lambda: ends.append(fit(5, every=5)[0]))
    thread.start()
    thread.join()
    assert_bits(ends[0], fit(5, every=5)[0])


def test_progress_is_a_line_now_and_then_in_a_log_file(capsys):
    fit(20, every=5, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("training: 5/20  ") and lines[-1].startswith("training: 20/20  ")
    assert all("loss 1." in line or "loss 0." in line for line in lines)


def test_the_usual_number_of_entries_is_twenty():
    assert fit(45)[1]["step"].tolist() == list(range(3, 46, 3))


def test_what_evaluate_returns_is_nested_or_has_names_of_its_own(tmp_path):
    with pytest.raises(ValueError, match="evaluate and the step both report accuracy, loss: nest what"):
        fit(20, every=10, evaluate=lambda s: {"loss": 1.0, "accuracy": 0.5})
    _, history = fit(20, every=10, evaluate=lambda s: {"test": {"loss": jnp.float32(1.0)}}, folder=tmp_path)
    np.testing.assert_array_equal(history["test/loss"], [1.0, 1.0])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["test/loss"] for row in rows] == [1.0, 1.0] and all("loss" in row for row in rows)
    for given, said in ((1.0, "numbers by name, .* got 1.0"), ({"a": {"b": None}}, "gave None for a/b: only numbers")):
        with pytest.raises(TypeError, match=f"evaluate .*{said}"):
            fit(20, every=10, evaluate=lambda s, given=given: given)


def test_a_part_of_a_model_that_could_not_be_saved_is_refused_before_the_first_step(tmp_path):
    train, rest = jann.partition(MODEL.init(jax.random.key(0)), "layers/1")
    step = jann.make_step(jann.adapt.frozen(jann.objective(MODEL, inputs="x"), rest), OPTIMIZER)
    state = jann.TrainState.start(jax.random.key(0), train, OPTIMIZER)
    with pytest.raises(ValueError, match=r"not the whole model(.|\n)*layers/0/weight: missing(.|\n)*combine"):
        jann.fit(step, batches, state, 20, every=10, folder=tmp_path / "model", model=MODEL, progress=False)
    end, _ = jann.fit(step, batches, state, 20, every=10, folder=tmp_path / "part", progress=False)
    jann.save(tmp_path / "whole", MODEL, jann.combine(rest, end.params))
    again = jann.load(tmp_path / "whole")[1]
    jax.tree.map(np.testing.assert_array_equal, again["layers"][1], end.params["layers"][1])


def test_the_best_of_a_run_is_loaded_by_its_metric(tmp_path):
    seen = []

    def evaluate(state):
        seen.append(copied(state.params))
        return {"score": [3.0, 9.0, 2.0, 1.0][len(seen) - 1]}

    end, _ = fit(40, every=10, folder=tmp_path, model=MODEL, evaluate=evaluate, best=("score", "max"))
    for best, expected in ((("score", "max"), seen[1]), (None, end.params)):
        jax.tree.map(np.testing.assert_array_equal, jann.load(tmp_path, best)[1], expected)
    with pytest.raises(ValueError, match="no checkpoint of .* has 'scores': give fit the same best"):
        jann.load(tmp_path, ("scores", "max"))


def test_an_unfinished_run_is_loaded_as_it_is_evaluated(tmp_path):
    step = jann.make_step(jann.objective(MODEL, inputs="x"), OPTIMIZER, average=0.9)
    state = jann.start(MODEL, OPTIMIZER, jax.random.key(0), average_weights=True)
    end, _ = jann.fit(step, batches, state, 20, folder=tmp_path, model=MODEL, progress=False)
    (tmp_path / "model.safetensors").unlink()
    jax.tree.map(np.testing.assert_array_equal, jann.load(tmp_path)[1], jann.eval_params(end))
    assert not np.array_equal(end.params["layers"][0]["weight"], jann.eval_params(end)["layers"][0]["weight"])


def test_plain_numbers_in_extra_come_back(tmp_path):
    def step(state, batch):
        extra = {**state.extra, "count": state.extra["count"] + 1}
        return state.replace(step=state.step + 1, extra=extra), {"loss": 0.0}

    state = start().replace(extra={"count": 0, "base": 1.0})
    for n in (10, 20):
        end, _ = jann.fit(step, batches, state, n, every=5, folder=tmp_path, progress=False)
        assert (int(end.extra["count"]), float(end.extra["base"])) == (n, 1.0)


def test_stacked_batches_go_on_where_a_run_was_stopped(tmp_path):
    stacked = jax.vmap(batches)(jnp.arange(20))
    whole, _ = fit(20, every=20)
    jann.fit(STEP, jax.tree.map(lambda a: a[:8], stacked), start(), 8, every=4, folder=tmp_path, progress=False)
    end, _ = jann.fit(STEP, stacked, start(), 20, every=4, folder=tmp_path, progress=False)
    assert_bits(end, whole)
