"""Streams: equal however the steps are cut, in a new process, and over several processes."""

import builtins
import json
import subprocess
import sys

import numpy as np
import pytest

from jann.data import Stream

pytest.importorskip("grain", reason="Grain is not installed: pip install 'jann[stream]'")


class Squares:
    """23 examples, each its number and its square."""

    def __len__(self):
        return 23

    def __getitem__(self, index):
        return {"x": np.full((2,), index**2, np.float32), "label": np.int32(index)}


def add_noise(example, rng):
    return {**example, "x": example["x"] + rng.standard_normal(2).astype(np.float32)}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for part in a:
        np.testing.assert_array_equal(a[part], b[part])


def test_twenty_steps_are_ten_and_ten_of_a_fresh_stream_bit_for_bit():
    whole = Stream(Squares(), 5, seed=3, transform=add_noise).read(0, 20)
    fresh = Stream(Squares(), 5, seed=3, transform=add_noise, threads=0)
    halves = [fresh.read(0, 10), fresh.read(10, 10)]
    assert whole["x"].shape == (20, 5, 2) and whole["x"].dtype == np.float32
    assert_same(whole, {part: np.concatenate([half[part] for half in halves]) for part in whole})
    other = Stream(Squares(), 5, seed=4, transform=add_noise).read(0, 20)
    assert not np.array_equal(whole["label"], other["label"])


def test_a_new_process_goes_on_where_the_last_one_stopped():
    program = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_stream import Squares, Stream, add_noise
out = Stream(Squares(), 5, seed=3, transform=add_noise).read(10, 10)
print(json.dumps({part: value.tolist() for part, value in out.items()}))
"""
    folder = __file__.rsplit("/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True, timeout=120
    )
    resumed = json.loads(done.stdout.splitlines()[-1])
    here = Stream(Squares(), 5, seed=3, transform=add_noise).read(0, 20)
    assert_same({part: value[10:].tolist() for part, value in here.items()}, resumed)


def test_reading_out_of_order_gives_each_step_its_own_batch():
    stream = Stream(Squares(), 5, seed=0, transform=add_noise)
    whole = stream.read(0, 9)
    for step in (8, 2, 3, 3, 0):
        assert_same(stream(step), {part: value[step] for part, value in whole.items()})


def test_each_epoch_visits_each_example_at_most_once_and_leaves_out_others():
    stream = Stream(Squares(), 5, seed=0)
    assert (stream.examples, stream.steps_per_epoch) == (23, 4)
    labels = stream.read(0, 24)["label"].reshape(6, 20)
    assert all(len(set(epoch.tolist())) == 20 for epoch in labels)
    assert len({frozenset(range(23)) - set(epoch.tolist()) for epoch in labels}) > 2
    assert not np.array_equal(labels[0], labels[1])


def test_leaves_stay_together_and_noise_differs_between_epochs():
    plain, noisy = (Stream(Squares(), 23, seed=1, transform=t).read(0, 2) for t in (None, add_noise))
    np.testing.assert_array_equal(plain["x"][..., 0], plain["label"].astype(np.float32) ** 2)
    np.testing.assert_array_equal(plain["label"], noisy["label"])
    noise = noisy["x"] - plain["x"]
    by_example = [noise[epoch][np.argsort(plain["label"][epoch])] for epoch in (0, 1)]
    assert (np.abs(by_example[0] - by_example[1]) > 1e-6).mean() > 0.9
    assert 0.5 < noise.std() < 1.5


@pytest.mark.parametrize("world", [2, 3, 6])
def test_processes_share_each_batch_whatever_their_number(world):
    whole = Stream(Squares(), 6, seed=2, transform=add_noise).read(0, 7)
    for rank in range(world):
        mine = Stream(Squares(), 6, seed=2, transform=add_noise, rank=rank, world=world).read(0, 7)
        assert_same(mine, {part: value[:, rank::world] for part, value in whole.items()})


def test_an_example_that_cannot_be_read_raises_and_the_next_read_is_right():
    broken = set()

    class Sometimes(Squares):
        def __getitem__(self, index):
            if index in broken:
                raise OSError(f"cannot read example {index}")
            return super().__getitem__(index)

    stream = Stream(Sometimes(), 5, seed=0)
    whole = Stream(Squares(), 5, seed=0).read(0, 3)
    stream(0)
    broken.add(int(whole["label"][2, 0]))
    stream = Stream(Sometimes(), 5, seed=0)
    stream.read(0, 2)
    with pytest.raises(OSError, match="cannot read example"):
        stream(2)
    broken.clear()
    assert_same(stream(2), {part: value[2] for part, value in whole.items()})


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(size=0), "batch size 0: choose 1 to 23"),
        (dict(size=24), "batch size 24: choose 1 to 23"),
        (dict(size=5, world=2), "choose a multiple of 2"),
        (dict(size=4, rank=2, world=2), "rank 2 of 2 processes: ranks are 0 to 1"),
    ],
)
def test_what_cannot_be_streamed_says_why(options, message):
    with pytest.raises(ValueError, match=message):
        Stream(Squares(), seed=0, **options)


def test_without_grain_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without_grain(name, *rest, **named):
        if name == "grain":
            raise ImportError("No module named 'grain'")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_grain)
    with pytest.raises(ImportError, match=r"pip install 'jann\[stream\]'"):
        Stream(Squares(), 5, seed=0)
