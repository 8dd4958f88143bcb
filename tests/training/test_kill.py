"""A process may be killed at any moment: the next one goes on and ends with the bits of a run that never stopped."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import jann

WORKER = Path(__file__).with_name("worker.py")


COMPILED = Path(tempfile.gettempdir()) / f"jann-test-kill-cache-{os.getuid()}"
ENVIRONMENT = {
    "PYTHONPATH": str(Path(jann.__file__).parents[1]),
    "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


class Worker:
    """A running worker and the lines that it has printed."""

    def __init__(self, kind, folder, steps, save_every=2):
        command = [sys.executable, str(WORKER), kind, str(folder), str(steps), str(save_every)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **ENVIRONMENT})
        self.lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            if line.strip():
                self.lines.append(line.split())

    def trained(self):
        return [int(step) for word, step, *_ in self.lines if word == "step"]

    def wait_for(self, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.0005)

    def finish(self, with_signal=None):
        """Waits, after a signal if one is given: -> (what it printed at its end, its errors)."""
        if with_signal is not None:
            self.process.send_signal(with_signal)
        errors = self.process.stderr.read()
        self.process.wait(timeout=60)
        self._reader.join()
        return next((line[1:] for line in self.lines if line[0] == "end"), None), errors


def finished(folder):
    """Steps of the checkpoints that are whole: those that Orbax has renamed."""
    return sorted(int(f.name) for f in (folder / "checkpoints").glob("*") if f.name.isdigit())


def unfinished(folder):
    return [f.name for f in (folder / "checkpoints").glob("*tmp*")]


def to_the_end(kind, folder, steps):
    worker = Worker(kind, folder, steps, save_every=steps)  # how often it saves changes nothing but the time
    end, errors = worker.finish()
    assert worker.process.returncode == 0, errors
    return end, worker.trained()


@pytest.mark.parametrize("kind, kills", [("plain", 20), ("stream", 4), ("stacked", 4)])
def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path, kind, kills):
    steps = 40 * kills
    whole, _ = to_the_end(kind, tmp_path / "whole", steps)
    folder, chance = tmp_path / "killed", random.Random(kind)
    during_write = 0
    for n in range(kills):
        before = finished(folder)
        worker = Worker(kind, folder, steps)
        if n > 0 and n % 5 == 0:  # at any moment, also before it trains
            time.sleep(chance.uniform(0, 2))
        else:
            worker.wait_for(lambda: finished(folder) and finished(folder)[-1:] != before[-1:])  # noqa: B023
            if n % 2:  # in the midst of writing a checkpoint
                worker.wait_for(lambda: unfinished(folder))
            time.sleep(chance.uniform(0, 0.02 if n % 2 else 0.1))
        assert worker.finish(signal.SIGKILL)[0] is None, "it reached its end before it was killed"
        during_write += bool(unfinished(folder))
        if before and worker.trained():
            assert worker.trained()[0] == before[-1] + 2, "it did not go on from its last finished checkpoint"
    assert during_write >= kills // 4
    assert finished(folder)[-1] < steps
    end, trained = to_the_end(kind, folder, steps)
    assert end == whole
    assert not unfinished(folder)


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(tmp_path):
    whole, _ = to_the_end("plain", tmp_path / "whole", 200)
    worker = Worker("plain", tmp_path / "stopped", 200)
    worker.wait_for(lambda: len(worker.trained()) >= 3)
    (reached, *_), errors = worker.finish(signal.SIGINT)
    assert worker.process.returncode == 0 and not errors, errors
    assert ["stopping", "after", "the", "present", "chunk;", "ctrl-C", "again", "stops", "at", "once"] in worker.lines
    assert 6 <= int(reached) < 200 and finished(tmp_path / "stopped")[-1] == int(reached)
    end, trained = to_the_end("plain", tmp_path / "stopped", 200)
    assert trained[0] == int(reached) + 2
    assert end == whole


@pytest.mark.parametrize("kind", ["plain", "stacked"])
def test_ten_and_ten_are_twenty_in_a_new_process(tmp_path, kind):
    whole, trained = to_the_end(kind, tmp_path / "whole", 20)
    assert trained == list(range(2, 21, 2))
    assert to_the_end(kind, tmp_path / "cut", 10)[1] == [2, 4, 6, 8, 10]
    assert to_the_end(kind, tmp_path / "cut", 20) == (whole, [12, 14, 16, 18, 20])
