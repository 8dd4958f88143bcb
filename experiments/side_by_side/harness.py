"""How rivals are timed: a process each, the same start, the same losses, and turns in rounds: A B C, A B C, ...

Only one rival works at a time; the others wait for a line on their standard input. A rival in the same process, or at
work at the same time, would change the other's figures: PyTorch's thread pool alone slowed JAX 2.7 times.

Nothing here imports JAX, so that the workers of other libraries don't.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Advance = Callable[[int], Any]  # does so many portions of work; returns their losses [..., steps] when they are done


@dataclass(frozen=True)
class Measured:
    """What an Advance returns instead of losses alone, where the work itself knows how much memory or time it took.

    megabytes: the most memory at once; seconds: of all portions, in place of the time of the whole call
    """

    losses: Any
    megabytes: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Bar:
    """What we want of `ours`: one of these.

    times:    it is at least so many times as fast as `theirs`
    seconds:  it takes at most so long, or so much longer than `theirs`
    memory:   it takes at most so many times the memory of `theirs`
    """

    ours: str
    theirs: str | None = None
    times: float | None = None
    seconds: float | None = None
    memory: float | None = None

    def __str__(self):
        if self.times is not None:
            return f"{self.ours} at least {self.times:.3g} × as fast as {self.theirs}"
        if self.memory is not None:
            return f"{self.ours} at most {self.memory:.3g} × the memory of {self.theirs}"
        return f"{self.ours} at most {self.seconds:g} s" + (f" longer than {self.theirs}" if self.theirs else "")


@dataclass(frozen=True)
class Case:
    """Work, and the rivals who do it.

    work:      what is done, in words
    unit:      of the figures: "steps/s" (more is better), "s" (seconds a portion, less is better) or "MB" (of memory)
    portion:   units of work in the smallest turn
    start:     () -> the arrays that all begin from: weights, data, order of the batches
    rivals:    {name: rival(start) -> advance}; a rival imports its own library. One whose losses are [] does not do
               the work: a limit of the machine, beside which the others stand
    reference: the rival whose speed is compared with each of the others
    checked:   how many of the first losses must agree, to the tolerance
    compiles:  compilation is the work, and so counts
    files:     files(folder) writes what is too large for arrays that all load; start["folder"] names it to the rivals
    """

    name: str
    work: str
    unit: str
    portion: int
    start: Callable[[], Arrays]
    rivals: dict[str, Callable[[Arrays], Advance]]
    reference: str
    bars: tuple[Bar, ...] = ()
    checked: int = 1
    tolerance: float = 1e-4
    compiles: bool = False
    files: Callable[[Path], None] | None = None

    @property
    def less_is_better(self) -> bool:
        return self.unit in ("s", "MB")


@dataclass(frozen=True)
class Timing:
    """One rival's figures, a number a round, in the case's unit.

    whole:      the same with compilation; megabytes: memory, of rivals that measure it
    limit:      the rival does not do the work, it is what the machine allows
    """

    figures: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    limit: bool = False


def steps(step: Callable[[], Any], portion: int) -> Advance:
    """`step() -> loss`, which need not be waited for, `portion` times a portion."""

    def advance(portions):
        return [float(loss) for loss in [step() for _ in range(portions * portion)]]

    return advance


def time_rivals(
    case: Case, names: list[str], rounds: int, seconds: float, say: Callable[[str], None] = print
) -> dict[str, Timing]:
    """{rival: its figures in each round}, of those that are installed, in turns of about `seconds`.

    Raises ValueError when two rivals' first losses differ by more than 1e-4: then they do not do the same work.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(folder / "start.npz", **case.start())
        if case.files is not None:
            case.files(folder)
        workers, losses, portions = {}, {}, {}
        for name in names:
            worker = stack.enter_context(Worker(case.name, name, folder / "start.npz"))
            ready = worker.answer()
            if "missing" in ready:
                say(f"{name} is skipped, {ready['missing']} is not installed: pip install -e '.[side_by_side]'")
                continue
            workers[name], losses[name] = worker, np.array(ready["losses"])
            check_same(losses, case.tolerance)
            portions[name] = max(1, round(seconds / worker.turn(1)["seconds"]))
        working = any(found.size for found in losses.values())
        timings = {name: Timing(limit=working and not losses[name].size) for name in workers}
        for number in range(rounds):
            for name, worker in workers.items():
                turn, timing = worker.turn(portions[name]), timings[name]
                if turn["megabytes"] is not None:
                    timing.megabytes.append(turn["megabytes"])
                if case.unit == "MB":
                    timing.figures.append(turn["megabytes"])
                    timing.whole.append(turn["megabytes"])
                    continue
                for found, took in (
                    (timing.figures, turn["seconds"] - (0 if case.compiles else turn["compiling"])),
                    (timing.whole, turn["seconds"]),
                ):
                    each = took / portions[name]
                    found.append(each if case.unit == "s" else case.portion / each)
            say(f"round {number + 1} of {rounds}")
    return timings


def check_same(losses: dict[str, np.ndarray], tolerance: float = 1e-4) -> None:
    """Raises ValueError unless all rivals' losses equal those of the first; a limit that is only timed has none."""
    working = {name: found for name, found in losses.items() if found.size}
    for name, got in working.items():
        first, wanted = next(iter(working.items()))
        if wanted.shape != got.shape or not np.abs(wanted - got).max() <= tolerance:
            raise ValueError(f"{name} does not do the work of {first}: its losses are\n{got}\nand not\n{wanted}")


def speed_ratios(case: Case, ours: Timing, theirs: Timing) -> np.ndarray:
    """How many times as fast as theirs ours is, in each round: both were timed within seconds of each other.

    Of memory: what part of theirs ours is, turned round, so that again more is better.
    """
    ratios = np.array(ours.figures) / np.array(theirs.figures)
    return 1 / ratios if case.less_is_better else ratios


class Worker:
    """A rival's process. It waits until it is asked, so that it takes no time from the others."""

    def __init__(self, case: str, rival: str, start: Path):
        self.rival = rival
        command = [sys.executable, "-m", "experiments.side_by_side.worker", case, rival, str(start)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.rival} ended with exit status {self.process.wait()}: see its message above")
        return json.loads(line)

    def turn(self, portions: int) -> dict:
        """{"seconds", "compiling", "megabytes"}: what the portions took, and how much of it was compilation"""
        print(portions, file=self.process.stdin, flush=True)
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()  # the worker ends where its input does
        self.process.wait()
        self.process.stdout.close()
