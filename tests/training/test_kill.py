"""A process may be killed at any moment: the next one goes on and ends with the bits of a run that never stopped."""

import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import jann
from jann.training.logs import only_writer

WORKER = Path(__file__).with_name("worker.py")


COMPILED = Path(tempfile.gettempdir()) / f"jann-test-kill-cache-{os.getuid()}"
ENVIRONMENT = {
    "PYTHONPATH": str(Path(jann.__file__).parents[1]),
    "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


@pytest.fixture(scope="module", autouse=True)
def server():
    """What forks the workers: it has imported what they need."""
    with tempfile.TemporaryDirectory() as folder:
        command, environment = [sys.executable, str(WORKER)], {**os.environ, **ENVIRONMENT}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        Worker.server = subprocess.Popen(command, text=True, env=environment, **pipes)
        Worker.printed = Path(folder)
        yield
        Worker.server.communicate()


class Worker:
    """A running worker and the lines that it has printed."""

    started = 0

    def __init__(self, kind, folder, steps, save_every=2):
        Worker.started += 1
        self._out, self._errors = (self.printed / f"{Worker.started}.{name}" for name in ("out", "errors"))
        for file in (self._out, self._errors):
            file.touch()
        asked = [kind, str(folder), steps, save_every, str(self._out), str(self._errors)]
        print(json.dumps(asked), file=self.server.stdin, flush=True)
        self._process = int(self.server.stdout.readline())

    @property
    def lines(self):
        return [line.split() for line in self._out.read_text().split("\n")[:-1] if line]

    def trained(self):
        return [int(step) for word, step, *_ in self.lines if word == "step"]

    def wait_for(self, condition, seconds=60):
        deadline = time.monotonic() + seconds
        ended = select.poll()
        ended.register(self.server.stdout, select.POLLIN)
        while not condition() and not ended.poll(0) and time.monotonic() < deadline:
            time.sleep(0.0005)

    def finish(self, with_signal=None):
        """Waits, after a signal if one is given: -> (what it printed at its end, its errors)."""
        if with_signal is not None:
            os.kill(self._process, with_signal)
        self.status = int(self.server.stdout.readline())
        return next((line[1:] for line in self.lines if line[0] == "end"), None), self._errors.read_text()


def finished(folder):
    """Steps of the checkpoints that are whole: those that Orbax has renamed."""
    return sorted(int(f.name) for f in (folder / "checkpoints").glob("*") if f.name.isdigit())


def unfinished(folder):
    return [f.name for f in (folder / "checkpoints").glob("*tmp*")]


def to_the_end(kind, folder, steps):
    worker = Worker(kind, folder, steps, save_every=steps)  # how often it saves changes nothing but the time
    end, errors = worker.finish()
    assert worker.status == 0, errors
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


def test_a_second_process_is_refused_until_the_first_ends_however_it_does(tmp_path):
    first = Worker("plain", tmp_path, 100_000)
    first.wait_for(lambda: finished(tmp_path))
    with pytest.raises(jann.RunFolderError, match=f"another process is writing in {tmp_path}: wait for it or choose"):
        with only_writer(tmp_path):
            pass
    first.finish(signal.SIGKILL)
    with only_writer(tmp_path), only_writer(tmp_path):
        pass


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(tmp_path):
    whole, _ = to_the_end("plain", tmp_path / "whole", 200)
    worker = Worker("plain", tmp_path / "stopped", 200)
    worker.wait_for(lambda: len(worker.trained()) >= 3)
    (reached, *_), errors = worker.finish(signal.SIGINT)
    assert worker.status == 0 and not errors, errors
    assert ["stopping", "after", "the", "present", "chunk;", "ctrl-C", "again", "stops", "at", "once"] in worker.lines
    assert 6 <= int(reached) < 200 and finished(tmp_path / "stopped")[-1] == int(reached)
    end, trained = to_the_end("plain", tmp_path / "stopped", 200)
    assert trained[0] == int(reached) + 2
    assert end == whole


@pytest.mark.parametrize("kind", ["plain", "stacked"])
def test_ten_and_ten_are_twenty_in_a_new_process(tmp_path, kind):
    def new_process(folder, steps):
        command = [sys.executable, str(WORKER), kind, str(tmp_path / folder), str(steps), str(steps)]
        environment = {**os.environ, **ENVIRONMENT}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        *trained, end = (line.split() for line in done.stdout.splitlines())
        return end[1:], [int(step) for _, step in trained]

    whole, trained = new_process("whole", 20)
    assert trained == list(range(2, 21, 2))
    assert new_process("cut", 10)[1] == [2, 4, 6, 8, 10]
    assert new_process("cut", 20) == (whole, [12, 14, 16, 18, 20])
