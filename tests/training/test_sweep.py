"""A whole experiment as one program: what it computes, how often it compiles, and how it goes on."""

import dataclasses
import importlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.models import MLP
from jann.training.sweep_identity import Identity

sweep_module = importlib.import_module("jann.training.sweep")  # the package gives the function under this name
TRACES = []


def experiment(key, learning_rate=0.1, hidden=(8,), dropout=0.0):
    """A little classifier, trained for a few steps."""
    TRACES.append(hidden)
    model = MLP(inputs=4, hidden=hidden, outputs=2)
    x = jax.random.normal(jax.random.key(5), (32, 4))
    batch = {"x": x, "label": (x[:, 0] * x[:, 1] > 0).astype(jnp.int32)}
    optimizer = optax.adam(learning_rate)
    step = jann.make_step(jann.objective(model, inputs="x"), optimizer)
    end, history = jann.train(step, lambda i: batch, jann.start(model, optimizer, key), 5)
    return {"loss": history["loss"][-1] + 0 * dropout, "curve": history["loss"]}


RATES = [0.01, 0.03, 0.1, 0.3]


def sweep(**options):
    return jann.sweep(options.pop("experiment", experiment), **{"progress": False, **options})


def key_of(seed):
    return jax.random.fold_in(jax.random.key(0), seed)


class Compilations:
    """Counts what the backend really compiles, by the name of the compiled function."""

    def __enter__(self):
        self.names = []
        self._handler = logging.Handler()
        self._handler.emit = lambda record: self.names.append(record.getMessage())
        self._logger = logging.getLogger("jax._src.dispatch")
        self._logger.addHandler(self._handler)
        jax.config.update("jax_log_compiles", True)
        return self

    def __exit__(self, *_):
        jax.config.update("jax_log_compiles", False)
        self._logger.removeHandler(self._handler)

    def of(self, function):
        return sum(f"Finished XLA compilation of jit({function})" in name for name in self.names)


def test_thirty_two_runs_compile_once_and_are_what_they_are_alone():
    with Compilations() as compilations:
        TRACES.clear()
        result = sweep(seeds=8, learning_rate=RATES)
    assert len(TRACES) == 1
    assert compilations.of("many") == 1
    assert result.complete and len(result.runs) == 32
    alone = jax.jit(experiment)
    for (point, seed), found in result.runs.items():
        expected = alone(key_of(seed), RATES[point])
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
        np.testing.assert_allclose(found["curve"], expected["curve"], rtol=1e-5)
    assert result.points == [{"learning_rate": rate} for rate in RATES]


def test_every_form_and_chunk_gives_the_same():
    expected = sweep(seeds=3, learning_rate=RATES, form="map")
    for options in ({"form": "vmap"}, {"form": "auto"}, {"form": "vmap", "chunk": 5}, {"form": "map", "chunk": 7}):
        result = sweep(seeds=3, learning_rate=RATES, **options)
        for run, values in expected.runs.items():
            np.testing.assert_allclose(result.runs[run]["curve"], values["curve"], rtol=1e-5)


def test_a_large_sweep_measures_both_forms_and_takes_the_faster(monkeypatch):
    taken = []
    original = sweep_module._compile

    def compile(experiment, form, *rest):
        taken.append(form)
        return original(experiment, form, *rest)

    monkeypatch.setattr(sweep_module, "_compile", compile)
    result = sweep(seeds=32, learning_rate=[0.01, 0.1], chunk=16)
    assert taken == ["map", "vmap"]
    alone = jax.jit(experiment)
    for seed in (0, 17, 31):
        np.testing.assert_allclose(result.runs[1, seed]["loss"], alone(key_of(seed), 0.1)["loss"], rtol=1e-5)


def test_a_seed_has_the_same_key_at_every_point_and_with_more_seeds():
    few, many = sweep(seeds=2, learning_rate=[0.1, 0.1]), sweep(seeds=4, learning_rate=[0.1])
    np.testing.assert_allclose(few.results(0)["loss"], few.results(1)["loss"], rtol=1e-6)
    np.testing.assert_allclose(few.results(0)["loss"], many.results(0)["loss"][:2], rtol=1e-6)
    other = sweep(seeds=2, learning_rate=[0.1], key=jax.random.key(1))
    assert np.abs(other.results(0)["loss"] - few.results(0)["loss"]).min() > 1e-4


def test_what_changes_shapes_compiles_once_a_value():
    TRACES.clear()
    result = sweep(seeds=2, learning_rate=[0.01, 0.1], hidden=[(4,), (8,), (4, 4)])
    assert sorted(TRACES) == [(4,), (4, 4), (8,)]
    assert len(result.points) == 6 and result.complete
    for point, values in enumerate(result.points):
        expected = jax.jit(experiment, static_argnames="hidden")(key_of(1), **values)
        np.testing.assert_allclose(result.runs[point, 1]["loss"], expected["loss"], rtol=1e-5)


def test_arrays_that_print_alike_are_different_values():
    first = np.zeros((100, 20), np.float32)
    second = first.copy()
    second[50, 10] = 7.0  # in the part that printing leaves out

    def total(key, data):
        return {"sum": jnp.asarray(data).sum()}

    result = sweep(experiment=total, seeds=1, data=[first, second])
    assert [float(result.results(i)["sum"][0]) for i in range(2)] == [0.0, 7.0]


def test_the_last_chunk_is_padded_and_the_padding_dropped(tmp_path):
    result = sweep(seeds=5, learning_rate=[0.1, 0.3], chunk=4, folder=tmp_path)
    assert len(result.runs) == 10
    names = sorted(file.name for file in (tmp_path / "chunks").iterdir())
    assert names == ["000-000000-000004.npz", "000-000004-000008.npz", "000-000008-000010.npz"]
    np.testing.assert_allclose(result.runs[1, 4]["loss"], jax.jit(experiment)(key_of(4), 0.3)["loss"], rtol=1e-5)


def test_memory_that_does_not_suffice_halves_the_chunk(monkeypatch):
    original, sizes = sweep_module._compile, []

    def compile(experiment, form, devices, inputs):
        sizes.append(len(inputs[0]))
        return original(experiment, form, devices, inputs)

    monkeypatch.setattr(sweep_module, "_compile", compile)
    monkeypatch.setattr(sweep_module, "_memory", lambda compiled, devices: (sizes[-1] * 100, 350))
    result = sweep(seeds=4, learning_rate=RATES, chunk=16)
    assert sizes == [16, 8, 4, 2] and result.complete
    np.testing.assert_allclose(result.runs[3, 3]["loss"], jax.jit(experiment)(key_of(3), 0.3)["loss"], rtol=1e-5)
    sizes.clear()
    monkeypatch.setattr(sweep_module, "_memory", lambda compiled, devices: (2, 1))  # never enough: one at a time
    assert sweep(seeds=2, learning_rate=[0.1], chunk=2).complete and sizes == [2, 1]


# on disk


def modified(folder):
    return {file.name: file.stat().st_mtime_ns for file in (folder / "chunks").iterdir()}


def test_finished_chunks_are_not_done_again_and_a_damaged_one_is(tmp_path):
    options = {"seeds": 4, "learning_rate": RATES, "chunk": 4, "folder": tmp_path}
    whole = sweep(**options)
    before = modified(tmp_path)
    TRACES.clear()
    again = sweep(**options)
    assert not TRACES and modified(tmp_path) == before
    file = tmp_path / "chunks" / "000-000004-000008.npz"
    for damaged in (0, 100, file.stat().st_size - 20):
        file.write_bytes(file.read_bytes()[:damaged])
        with pytest.warns(UserWarning, match=r"000-000004-000008.npz is damaged \(.*\): its runs are done again"):
            again = sweep(**options)
        after = modified(tmp_path)
        assert {name for name in before if after[name] != before[name]} == {"000-000004-000008.npz"}
        before = after
        for run in whole.runs:
            np.testing.assert_array_equal(again.runs[run]["curve"], whole.runs[run]["curve"])


def test_a_folder_goes_on_with_another_chunk_size(tmp_path):
    options = {"seeds": 4, "learning_rate": RATES, "folder": tmp_path}
    whole = sweep(**options, chunk=4)
    (tmp_path / "chunks" / "000-000008-000012.npz").unlink()
    again = sweep(**options, chunk=3)
    assert again.complete
    for run in whole.runs:
        np.testing.assert_allclose(again.runs[run]["loss"], whole.runs[run]["loss"], rtol=1e-5)


def test_another_sweep_in_the_same_folder_is_refused(tmp_path):
    sweep(seeds=2, learning_rate=[0.1], folder=tmp_path)
    before = modified(tmp_path)
    for other, what in (
        ({"learning_rate": [0.2]}, r"grid was {'learning_rate': \[0.1\]}, is {'learning_rate': \[0.2\]}"),
        ({"learning_rate": [0.1], "seeds": 3}, "seeds was 2, is 3"),
        ({"learning_rate": [0.1], "key": jax.random.key(4)}, "key was"),
        ({"learning_rate": [0.1], "experiment": double}, "experiment was .*:experiment', is .*:double'"),
    ):
        with pytest.raises(jann.RunFolderError, match=f"holds a run of another configuration .*{what}"):
            sweep(**{"seeds": 2, "folder": tmp_path, **other})
    assert modified(tmp_path) == before
    # a partial of the experiment is named as the experiment: its own text holds addresses
    assert sweep(experiment=partial(experiment), seeds=2, learning_rate=[0.1], folder=tmp_path).complete


def double(key, learning_rate):
    return {"value": 2 * learning_rate}


WORKER = """
import sys, time
import numpy as np
import jax, jax.numpy as jnp
import jann

DEVICES = int(sys.argv[2])
if DEVICES > 1:
    jann.cpu_devices(DEVICES)

def slow(key, rate, steps=20):
    def one(x, _):
        return jnp.cos(x) * rate + jax.random.normal(key) * 0.1, None
    jax.debug.callback(lambda: time.sleep(float(sys.argv[3])))
    return {"value": jax.lax.scan(one, rate, None, steps)[0]}

result = jann.sweep(slow, seeds=4, rate=[0.1, 0.2, 0.3, 0.4], folder=sys.argv[1], chunk=2, form="map")
print(f"devices {len(jax.local_devices())} finished {len(result.runs)} complete {result.complete}")
print([result.runs[run]["value"].tobytes().hex() for run in sorted(result.runs)])
"""


def start_worker(folder, devices=1, pause=0.0):
    environment = {**os.environ, "PYTHONPATH": str(Path(jann.__file__).parents[1])}
    command = [sys.executable, "-c", WORKER, str(folder), str(devices), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(worker):
    out, errors = worker.communicate(timeout=120)
    assert worker.returncode == 0, errors
    return out.splitlines()[-2:]


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_sweep_stopped_half_way_goes_on_without_repeating(tmp_path, with_signal):
    folder = tmp_path / "stopped"
    worker = start_worker(folder, pause=0.1)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("chunks/000-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    worker.send_signal(with_signal)
    if with_signal == signal.SIGINT:
        line, _ = finish(worker)
        assert line.startswith("devices 1 finished ") and line.endswith("complete False")
    else:
        worker.communicate()
    done = {name: when for name, when in modified(folder).items() if not name.startswith(".")}
    assert 3 <= len(done) < 8
    line, values = finish(start_worker(folder))
    assert line == "devices 1 finished 16 complete True"
    after = modified(folder)
    assert {name: after[name] for name in done} == done, "a finished chunk was done again"
    assert values == finish(start_worker(tmp_path / "whole"))[1]


def test_runs_spread_over_two_devices(tmp_path):
    line, two = finish(start_worker(tmp_path / "two", devices=2))
    assert line == "devices 2 finished 16 complete True"
    _, one = finish(start_worker(tmp_path / "one"))

    def numbers(text):
        return [np.frombuffer(bytes.fromhex(value), np.float32)[0] for value in json.loads(text.replace("'", '"'))]

    np.testing.assert_allclose(numbers(two), numbers(one), rtol=1e-5)


# results


def scores(key, quality):
    noise = jax.random.uniform(key) * 0.1
    score = jnp.where(quality > 5, jnp.nan, quality + noise)
    return {"score": score, "more": {"x": noise}, "curve": noise * jnp.ones(3)}


def test_rows_give_means_and_intervals_and_are_json():
    result = sweep(experiment=scores, seeds=4, quality=[1.0, 2.0])
    rows = json.loads(json.dumps(result.rows()))
    values = np.array([1.0 + 0.1 * float(jax.random.uniform(key_of(seed))) for seed in range(4)])
    half = 3.182446 * values.std(ddof=1) / 2  # Student's t, 3 degrees of freedom
    assert rows[0]["quality"] == 1.0 and set(rows[0]) == {"quality", "score", "more/x"}
    np.testing.assert_allclose(rows[0]["score"]["seeds"], values, rtol=1e-6)
    np.testing.assert_allclose(rows[0]["score"]["mean"], values.mean(), rtol=1e-6)
    np.testing.assert_allclose(rows[0]["score"]["high"] - values.mean(), half, rtol=1e-4)
    np.testing.assert_allclose(values.mean() - rows[0]["score"]["low"], half, rtol=1e-4)
    assert result.results(1)["curve"].shape == (4, 3)
    mean = f"{rows[1]['score']['mean']:.4f} ± "
    assert mean in repr(result) and "mean ± 95 % interval over 4 seeds" in repr(result)


def test_a_result_by_name_is_that_of_every_point_and_seed():
    result = sweep(experiment=scores, seeds=3, quality=[1.0, 2.0])
    expected = [[q + 0.1 * float(jax.random.uniform(key_of(seed))) for seed in range(3)] for q in (1.0, 2.0)]
    np.testing.assert_allclose(result["score"], expected, rtol=1e-6)
    assert result["curve"].shape == (2, 3, 3)
    np.testing.assert_array_equal(result["more/x"][1], result.results(1)["more"]["x"])
    with pytest.raises(KeyError, match="no result 'scores' at point 0, which has 'curve', 'more/x', 'score'"):
        result["scores"]
    with pytest.raises(ValueError, match="1 runs are not finished"):
        dataclasses.replace(result, runs=dict(list(result.runs.items())[:-1]))["score"]
    counted = sweep(experiment=lambda key, n: {"value": jnp.ones(n)}, seeds=1, n=[1, 2])
    with pytest.raises(ValueError, match=r"'value' is not of one shape at every point, \(1,\) or \(2,\): take"):
        counted["value"]


def test_numbers_stand_under_their_own_names_with_digits_that_tell():
    first = {"loss": [0.9, 0.92], "flat": [1.0, 1 + 2**-20]}
    second = {"kl": [100.0, 100.0], "loss": [1e-5, 3e-5], "steps": [3e7, 3e7]}
    runs = {
        (i, seed): {name: np.float32(values[seed]) for name, values in point.items()}
        for i, point in enumerate((first, second))
        for seed in (0, 1)
    }
    head, _, *rows = str(jann.Sweep([{"kind": "a"}, {"kind": "b"}], 2, runs)).splitlines()[1:5]
    names, *cells = ([part.strip() for part in re.split("[┃│]", line)[1:-1]] for line in (head, *rows))
    a, b = (dict(zip(names, row, strict=True)) for row in cells)
    assert a == {"kind": "a", "loss": "0.9100 ± 0.1271", "flat": "1.0000 ± 6.1e-06", "kl": "", "steps": ""}
    assert b == {"kind": "b", "loss": "2e-05 ± 0.00013", "flat": "", "kl": "100.0000 ± 0.0000", "steps": "3e+07 ± 0"}


def test_diverged_points_never_win():
    with jax.debug_nans(False):
        result = sweep(experiment=scores, seeds=3, quality=[9.0, 2.0, 3.0, 1.0])
    assert result.best("score") == 2
    assert result.best("score", "min") == 3
    with pytest.raises(ValueError, match="mode='largest': choose 'max' or 'min'"):
        result.best("score", "largest")
    assert np.isnan(result.rows()[0]["score"]["mean"])
    diverged = dataclasses.replace(result, runs={run: found for run, found in result.runs.items() if run[0] == 0})
    with pytest.raises(ValueError, match="no finite mean of 'score' at any of the 1 points that have finished runs"):
        diverged.best("score")


@pytest.mark.parametrize("own", [False, True])
def test_results_come_back_from_a_folder_as_they_were(tmp_path, own):
    def nested(key):
        one = jnp.ones((), jnp.bfloat16)
        more = {"own": optax.ScaleByScheduleState(one)} if own else {}
        within = {"loss": 2 * one, "0": (one, [one])}
        return {"test/loss": one, "test": within, "file": one, "none": None, "empty": {}, **more}

    options = {"experiment": nested, "seeds": 3, "folder": tmp_path, "chunk": 2}
    first, second = sweep(**options), sweep(**options)
    (tmp_path / "chunks" / "000-000002-000003.npz").unlink()
    for found in (second, sweep(**options)):
        assert jax.tree.structure(found.results(0)) == jax.tree.structure(first.results(0))
        jax.tree.map(np.testing.assert_array_equal, found.results(0), first.results(0))
        assert repr(found) == repr(first)


def test_what_an_experiment_holds_tells_sweeps_apart(tmp_path):
    def made(steps):
        counted = []

        def closing(key, scale, decay=1.0):
            counted.append(steps)
            return {"value": scale * steps * decay}

        return closing

    other = partial(made(5), decay=2.0)
    assert sweep(experiment=made(5), seeds=1, scale=[1.0], folder=tmp_path)["value"] == 5
    assert sweep(experiment=made(5), seeds=1, scale=[1.0], folder=tmp_path)["value"] == 5  # though it has counted
    for different in (made(50), other):
        with pytest.raises(jann.RunFolderError, match="closed-over steps was 5, is 50|given decay was None, is 2.0"):
            sweep(experiment=different, seeds=1, scale=[1.0], folder=tmp_path)
    assert sweep(experiment=other, seeds=1, scale=[1.0], folder=tmp_path / "other")["value"] == 10


STUDY = """
import jax, jax.numpy as jnp, numpy as np
import jann

RATE = 1.0
LIMIT = float("inf")
BATCH = {"x": np.arange(3.0)}
TRACES = []

class Net(jann.Model):
    width: int = 3
    def apply(self, params, x, state=None, key=None):
        return params * x, state

class Study:
    def __init__(self, scale):
        self.scale = scale
    def run(self, key, lr):
        return {"value": lr * self.scale}

def scaled(x):
    return x * RATE if x in {"a", "b", "c"} else scaled(x)

@jax.jit
def experiment(key, lr, decay=0.5):
    "What it does."
    TRACES.append(lr)  # a counter
    return {"value": jnp.cos(lr) * decay * BATCH["x"].mean() + Net().apply(scaled(lr), LIMIT)[0]}
"""


def test_what_changed_in_an_experiment_is_named():
    def parts(experiment):
        return json.loads(json.dumps(Identity(experiment).parts(experiment), allow_nan=False))

    def study(before="", after=""):
        module = {"__name__": "study"}
        exec(STUDY.replace(before, after) if before else STUDY, module)
        return module

    def returning(it):
        return lambda key: it

    def changed(one, two):
        return {name for name in one | two if one.get(name) != two.get(name)}

    first = parts(study()["experiment"])
    for before, after, names in (
        ("RATE = 1.0", "RATE = 2.0", {"global RATE"}),
        ("arange(3.0)", "arange(1.0, 4.0)", {"global BATCH"}),
        ("params * x", "params + x", {"global Net"}),
        ("width: int = 3", "width: int = 4", {"global Net"}),
        ("x * RATE", "x / RATE", {"global scaled"}),
        ("jnp.cos", "jnp.sin", {"the experiment's code"}),
        ("decay=0.5", "decay=0.6", {"default decay"}),
        ("What it does", "What this does", set()),
        ("  # a counter", "\n\n    # counts", set()),
        ("TRACES = []", "TRACES = [1, 2]", set()),
        ("self.scale", "self.by", set()),  # of a class that it does not name
    ):
        assert changed(first, parts(study(before, after)["experiment"])) == names, before
    made = study()["Study"]
    assert changed(parts(made(1.0).run), parts(made(100.0).run)) == {"object's scale"}
    ones, others, a_key = (parts(returning(it)) for it in (np.ones(3), {"x": jnp.zeros(3)}, jax.random.key(0)))
    assert changed(ones, others) == changed(others, a_key) == {"closed-over it"}
    with pytest.warns(UserWarning, match="the folder cannot tell one Study from another"):
        parts(made({"scale": 1.0}).run)


def test_functions_are_identified_alike_in_every_process():
    def identified(value):
        return Identity(value)(value)

    for value in (optax.adam(1e-3), partial(jax.nn.leaky_relu, negative_slope=0.1), jax.jit(double), lambda x: x, MLP):
        assert "0x" not in json.dumps(identified(value))
    assert identified(optax.adam(1e-3)) == identified(optax.adam(1e-3)) != identified(optax.adam(1e-2))
    assert identified(np.arange(3)) != identified(np.arange(1, 4))


def test_a_function_may_hold_itself_and_what_is_not_there_yet():
    def recursive(n):
        return recursive(n - 1) if later else n

    assert "later" not in str(Identity(recursive).parts(recursive))
    later = 3
    assert Identity(recursive).parts(recursive)["closed-over later"] == 3


def test_floats_may_be_constants():
    def noisy(key, dropout, rate):
        model = MLP(2, (3,), 1, dropout=dropout)
        return {"value": model.dropout * rate}

    for static in ("dropout", ("dropout",)):
        result = sweep(experiment=noisy, seeds=1, dropout=[0.1, 0.5], rate=[1.0, 2.0], static=static)
        np.testing.assert_allclose(result["value"][:, 0], [0.1, 0.2, 0.5, 1.0])
    with pytest.raises(TypeError, match=r"MLP.dropout must be hashable.*jann.sweep\(static=\('dropout',\)\)"):
        sweep(experiment=noisy, seeds=1, dropout=[0.1, 0.5], rate=1.0)
    with pytest.raises(ValueError, match="static=.*: the grid has no rates, it has dropout"):
        sweep(experiment=noisy, seeds=1, dropout=[0.1, 0.5], static=("rates",))


def test_fit_inside_an_experiment_names_train():
    def fitted(key):
        optimizer = optax.sgd(0.1)
        model = MLP(2, (3,), 1)
        step = jann.make_step(jann.objective(model, jann.regression, "x"), optimizer)
        state, _ = jann.fit(step, lambda i: {}, jann.start(model, optimizer, key), 3)
        return state.params

    with pytest.raises(TypeError, match="inside jit, vmap or the experiment of a sweep use jann.train"):
        sweep(experiment=fitted, seeds=1)


def test_errors_say_in_which_runs_what_is_kept_and_what_is_traced(tmp_path):
    def failing(key, width, rate):
        return {"value": jnp.ones(()) if width or rate > 0 else rate}

    for folder, kept in ((None, "and lost: with folder=... they are kept"), (tmp_path, f"kept in {tmp_path}")):
        with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
            sweep(experiment=failing, seeds=2, width=[8, 0], rate=[0.0, 1.0], folder=folder)
        notes = "\n".join(caught.value.__notes__)
        assert f"in the runs of the sweep with width=0, rate=(traced); 4 of 8 are finished, {kept}" in notes
        assert "floats of a sweep are traced: static=('rate',) makes constants of them" in notes
    with pytest.raises(
        TypeError, match="sweep is a loop in Python: inside jit or an experiment of a sweep use jax.vmap"
    ):
        sweep(experiment=lambda key: sweep(experiment=double, learning_rate=[0.1]).results(0), seeds=1)


def test_dicts_may_be_values_and_names_must_differ():
    result = sweep(experiment=lambda key, c: {"value": jnp.float32(c["a"])}, seeds=2, c=[{"a": 1.0}, {"a": 2.0}])
    assert "{'a': 2.0}" in repr(result)
    marked = sweep(experiment=lambda key, c: {"speed [/s]": jax.random.normal(key)}, seeds=2, c=["[m]:100:"])
    assert "speed [/s]" in repr(marked) and "[m]:100:" in repr(marked)
    with pytest.raises(KeyError, match="no result 'values' at point 0, which has 'value'"):
        result.best("values")
    with pytest.raises(ValueError, match="a: a result needs a name that no hyper-parameter has"):
        sweep(experiment=lambda key, a: {"a": a}, seeds=1, a=[1.0])


def test_functions_models_and_names_are_values_of_the_grid():
    def named(key, activation, model, name):
        return {"value": activation(jnp.float32(-1.0)) + model.outputs + len(name)}

    model = MLP(2, (3,), 1)
    result = sweep(experiment=named, seeds=1, activation=[jax.nn.relu, jnp.abs], model=model, name=["a", "bcd"])
    assert [float(result.results(i)["value"][0]) for i in range(4)] == [2.0, 4.0, 3.0, 5.0]
    row = json.loads(json.dumps(result.rows()))[2]
    assert (row["activation"], row["name"]) == ("jax.numpy:abs", "a")
    assert "MLP(inputs=2, hidden=(3,), outputs=1)" in row["model"]


def test_grids_may_be_arrays_and_ranges():
    result = sweep(experiment=double, seeds=1, learning_rate=np.linspace(0.0, 1.0, 3))
    assert [float(result.results(i)["value"][0]) for i in range(3)] == [0.0, 1.0, 2.0]
    counted = sweep(experiment=lambda key, n: {"value": jnp.ones(n).sum()}, seeds=1, n=range(1, 4))
    assert [float(counted.results(i)["value"][0]) for i in range(3)] == [1.0, 2.0, 3.0]


def test_bad_grids_options_and_experiments_are_refused():
    for options, message in (
        ({"learning_rate": []}, "learning_rate is an empty list: give at least one value"),
        ({"learning_rate": np.ones((2, 2))}, "learning_rate has 2 dimensions: an axis of the grid is a list"),
        ({"seeds": 0}, "seeds=0: a sweep needs at least one"),
        ({"form": "pmap"}, "form='pmap': choose 'auto', 'map' or 'vmap'"),
        ({"chunk": 0}, "chunk=0: at least one run goes at a time"),
        ({"experiment": lambda key: 3.0}, "an experiment returns a dict of arrays, got float: 3.0"),
        ({"experiment": lambda key: {"a": 1}}, "an experiment returns a dict of arrays, got dict: {'a': 1}"),
        ({"experiment": lambda key: {}}, "an experiment returns a dict of arrays, got dict: {}"),
    ):
        with pytest.raises(ValueError, match=message):
            sweep(**options)
