"""Checkpoints: everything that a run is, whole or refused."""

import gc
import json
import re
import time
from datetime import timedelta

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann import CheckpointError, Checkpoints
from jann.training import checkpoint as module


def tree(seed=0, size=3):
    """Every kind of leaf that a train state may hold."""
    key = jax.random.key(seed)
    return {
        "params": {"layers": [{"weight": jax.random.normal(key, (size, 2))}, {}]},
        "half": jax.random.normal(key, (4,)).astype(jnp.bfloat16),
        "count": jnp.int32(seed),
        "flag": jnp.array([True, False]),
        "key": key,
        "keys": jax.random.split(key, 2),
        "philox": jax.random.key(seed, impl="rbg"),
        "average": jann.start_average({"a": jnp.ones(2) * seed}),
        "nothing": None,
    }


def plain(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def assert_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(plain(x), plain(y))


def test_every_leaf_comes_back(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, tree(1))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [7]
        assert_bits(checkpoints.restore(tree(2)), tree(1))
        assert_bits(checkpoints.restore(jax.eval_shape(tree)), tree(1))
        part = checkpoints.restore_part("params/layers/0", {"weight": jnp.zeros((3, 2))})
        assert_bits(part, tree(1)["params"]["layers"][0])


def test_what_is_saved_may_be_donated_at_once(tmp_path):
    forget = jax.jit(lambda t: jax.tree.map(lambda x: x * 0, t), donate_argnums=0)
    given = {"weight": jnp.arange(1_000_000.0)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, given)
        forget(given)
        checkpoints.wait()
        np.testing.assert_array_equal(checkpoints.restore({"weight": jnp.zeros(1_000_000)})["weight"], np.arange(1e6))


def test_the_latest_are_kept_and_an_earlier_one_can_be_chosen(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step))
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
        assert checkpoints.best_step() is None
        assert int(checkpoints.restore(tree())["count"]) == 3
        assert int(checkpoints.restore(tree(), step=2)["count"]) == 2
        with pytest.raises(CheckpointError, match=r"holds no checkpoint of step 1; it has \[2, 3\]"):
            checkpoints.restore(tree(), step=1)


def test_one_is_due_by_the_time_that_passed_whatever_the_dates_are(tmp_path, monkeypatch):
    clock = [timedelta(0)]
    monkeypatch.setattr(module, "_clock", lambda: clock[0])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"count": jnp.int32(1)})
    (file,) = (tmp_path / "checkpoints" / "1").glob("_CHECKPOINT_METADATA")
    ahead = {"init_timestamp_nsecs": 2 * time.time_ns(), "commit_timestamp_nsecs": 2 * time.time_ns()}
    file.write_text(json.dumps({**json.loads(file.read_text()), **ahead}))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.due(2)
        checkpoints.save(2, {"count": jnp.int32(2)})
        checkpoints.wait()
        assert not checkpoints.due(3)
        clock[0] += timedelta(seconds=module.SECONDS)
        assert checkpoints.due(3)


def test_what_cannot_be_written_is_one_error_that_names_the_last_whole_one(tmp_path, monkeypatch):
    def full(*_, **__):
        raise ValueError(f"RESOURCE_EXHAUSTED: {'folder/' * 40}: No space left on device\nand more")

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"count": jnp.int32(1)})
        checkpoints.wait()
        for name, write in {
            "save": lambda: checkpoints.save(2, {"count": jnp.int32(2)}),
            "wait_until_finished": checkpoints.wait,
            "close": checkpoints.__exit__,
        }.items():
            with monkeypatch.context() as disk, pytest.raises(CheckpointError) as error:
                disk.setattr(checkpoints._manager, name, full)
                write()
            assert re.fullmatch(
                r"cannot write the checkpoint of step 2 in .* \(RESOURCE_.* \.\.\. .* No space left on device\): "
                r"make room if the disk is full; the run goes on from step 1",
                str(error.value),
            )


def test_a_checkpoint_of_something_else_lists_what_differs(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
            checkpoints.restore(tree())
        checkpoints.save(1, tree())
        checkpoints.wait()
        other = tree(size=5)
        other["new"], _ = jnp.ones(2), other.pop("flag")
        with pytest.raises(CheckpointError) as error:
            checkpoints.restore(other)
        lines = str(error.value).splitlines()
        assert lines[0].endswith("checkpoints/1 is of another model, optimiser or state:")
        assert lines[1:4] == [
            "  new: missing in the checkpoint",
            "  flag: only in the checkpoint",
            "  params.layers.0.weight: [3, 2] in the checkpoint, wanted [5, 2]",
        ]
        assert lines[-1].startswith("give this run a folder of its own")
        assert_bits(checkpoints.restore(tree(2)), tree())


def test_a_truncated_checkpoint_names_itself_and_the_one_before(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree(1))
        checkpoints.save(2, tree(2))
    folder = tmp_path / "checkpoints" / "2"
    largest = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with Checkpoints(tmp_path) as checkpoints:
        message = r"checkpoints/2 is damaged or incomplete \(.*\): delete that folder to go on from step 1"
        with pytest.raises(CheckpointError, match=message):
            checkpoints.restore(tree())
        assert_bits(checkpoints.restore(tree(), step=1), tree(1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # from Orbax's own threads
@pytest.mark.parametrize("remove", [True, False], ids=["removed", "truncated"])
def test_damage_to_any_file_is_an_error_of_ours_or_none(tmp_path, remove):
    """No file of a checkpoint can be cut without either an error that names it or all values intact."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree(1))
    files = [f for f in (tmp_path / "checkpoints" / "1").rglob("*") if f.is_file()]
    refused = 0
    for file in files:
        whole = file.read_bytes()
        file.unlink() if remove else file.write_bytes(whole[: len(whole) // 2])
        try:
            with Checkpoints(tmp_path) as checkpoints:
                if checkpoints.steps():
                    assert_bits(checkpoints.restore(tree()), tree(1))
        except CheckpointError as error:
            refused += 1
            assert "delete it to start afresh" in str(error)
        file.write_bytes(whole)
    gc.collect()  # Orbax's readers of damaged files complain when they are collected: here, not in a later test
    assert refused >= 2
    with Checkpoints(tmp_path) as checkpoints:
        assert_bits(checkpoints.restore(tree()), tree(1))


def test_unknown_ways_of_being_best_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"best=\('loss', 'lowest'\): the second part is 'max' or 'min'"):
        Checkpoints(tmp_path, best=("loss", "lowest"))


OF_TWO = """
import json, pathlib, time
import numpy as np
import jann, jann.training.checkpoint as module
from jann.training import logs
(folder,) = arguments
module.SECONDS = 2
split = jax.sharding.NamedSharding(jax.make_mesh((2,), ("data",)), jax.sharding.PartitionSpec("data"))
tree = {"rows": jax.make_array_from_process_local_data(split, np.full((2, 3), number, np.float32))}
due = []
with jann.Checkpoints(folder, keep=9) as checkpoints:
    for step in range(1, 13):
        time.sleep(0.3 + 0.2 * number)  # each has a pace of its own
        if checkpoints.due(step):
            checkpoints.save(step, tree)
            due.append(step)
with logs.only_writer(pathlib.Path(folder)):  # of both: they train together
    log = logs.Log(pathlib.Path(folder))
    log.write({"step": 1, "number": number})
print(json.dumps([due, log.rows]))
"""


def test_processes_agree_on_checkpoints_the_first_writes_and_another_number_of_them_reads(in_two_processes, tmp_path):
    both = in_two_processes(OF_TWO, tmp_path)
    due, rows = zip(*(json.loads(lines[-1]) for lines in both), strict=True)
    assert rows == tuple([{"step": 1, "number": number}] for number in range(2))
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "number": 0}\n'  # the first alone writes
    assert due[0] == due[1] and due[0][0] == 1 and 1 < len(due[0]) < 12
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == due[0]
        rows = checkpoints.restore({"rows": jnp.zeros((4, 3))})["rows"]
    np.testing.assert_array_equal(rows, [[0] * 3] * 2 + [[1] * 3] * 2)
