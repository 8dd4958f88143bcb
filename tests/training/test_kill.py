"""A process may be killed at any moment: the next one goes on and ends with the bits of a run that never stopped."""

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker.py")


class Worker:
    """A running worker and the lines that it has printed."""

    def __init__(self, kind, folder, steps):
        command = [sys.executable, str(WORKER), kind, str(folder), str(steps)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.split())

    def trained(self):
        return [int(step) for word, step, *_ in self.lines if word == "step"]

    def wait_for(self, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.0005)

    def kill(self, with_signal=signal.SIGKILL):
        self.process.send_signal(with_signal)
        return self.end()

    def end(self):
        _, errors = self.process.stderr.read(), None
        self.process.wait(timeout=60)
        self._reader.join()
        return [line[1:] for line in self.lines if line[0] == "end"]


def finished(folder):
    """Steps of the checkpoints that are whole: those that Orbax has renamed."""
    return sorted(int(f.name) for f in (folder / "checkpoints").glob("*") if f.name.isdigit())


def unfinished(folder):
    return [f.name for f in (folder / "checkpoints").glob("*tmp*")]


def to_the_end(kind, folder, steps):
    worker = Worker(kind, folder, steps)
    errors = worker.process.stderr.read()
    (end,) = worker.end() or [errors]
    assert worker.process.returncode == 0, end
    return end, worker.trained()


@pytest.mark.parametrize("kind, kills", [("plain", 20), ("stream", 4), ("stacked", 4)])
def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path, kind, kills):
    steps = 14 * kills
    whole, _ = to_the_end(kind, tmp_path / "whole", steps)
    folder, chance = tmp_path / "killed", random.Random(kind)
    during_write = resumed = 0
    for n in range(kills):
        before = finished(folder)
        worker = Worker(kind, folder, steps)
        if n % 2:  # the moment that a checkpoint is being written
            worker.wait_for(lambda: len(worker.trained()) > chance.randrange(3) and unfinished(folder))  # noqa: B023
        else:
            worker.wait_for(worker.trained)
            time.sleep(chance.uniform(0.0, 0.1))
        worker.kill()
        during_write += bool(unfinished(folder))
        if before and worker.trained():
            assert worker.trained()[0] == before[-1] + 2, "it did not go on from its last finished checkpoint"
            resumed += 1
        if finished(folder)[-1:] == [steps]:
            break
    assert resumed >= kills // 2 and during_write >= kills // 4, (resumed, during_write, finished(folder))
    end, trained = to_the_end(kind, folder, steps)
    assert end == whole
    assert not unfinished(folder)


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(tmp_path):
    whole, _ = to_the_end("plain", tmp_path / "whole", 200)
    worker = Worker("plain", tmp_path / "stopped", 200)
    worker.wait_for(lambda: len(worker.trained()) >= 3)
    worker.process.send_signal(signal.SIGINT)
    errors = worker.process.stderr.read()
    ((reached, *_),) = worker.end()
    assert worker.process.returncode == 0 and not errors, errors
    assert ["stopping", "after", "the", "present", "chunk;", "ctrl-C", "again", "stops", "at", "once"] in worker.lines
    assert 6 <= int(reached) < 200 and finished(tmp_path / "stopped")[-1] == int(reached)
    end, trained = to_the_end("plain", tmp_path / "stopped", 200)
    assert trained[0] == int(reached) + 2
    assert end == whole


def test_ten_and_ten_are_twenty_in_a_new_process(tmp_path):
    """Here the schedule is that of 20 steps throughout: what stops the first process is its number of chunks."""
    whole, _ = to_the_end("plain", tmp_path / "whole", 20)
    worker = Worker("plain", tmp_path / "cut", 20)
    worker.wait_for(lambda: 10 in finished(tmp_path / "cut"))
    worker.kill()
    assert to_the_end("plain", tmp_path / "cut", 20)[0] == whole
