"""Whether generated Python programs parse, run and pass their tests."""

import ast
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from jann.data import Problem

CANDIDATE = Path(__file__).with_name("candidate.py")


class Outcome(NamedTuple):
    """How far a program comes: it is Python and not empty; it runs to its end; all tests pass after that."""

    parses: bool
    runs: bool
    passes: bool


def outcomes(
    programs: Sequence[str], problems: Sequence[Problem], seconds: float = 5.0, memory: int = 2**29
) -> list[Outcome]:
    """The outcome of each program with the tests of its problem (whose own code is not looked at).

    Each runs in a Python of its own, that sees no packages, no environment and an empty folder, which is deleted. It
    may take so many seconds and bytes of memory, and write files of a megabyte; then it is ended, with all that it
    started. That is against accidents. It does not shut in a program that means harm: run those of strangers in a
    container. Needs Unix.
    """
    pairs = list(zip(map(parses, programs), programs, problems, strict=True))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda pair: outcome(*pair, seconds, memory), pairs))


def parses(program: str) -> bool:
    """Whether it is Python, with at least one statement"""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes and the like in a program that is not ours
            return bool(ast.parse(program).body)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def outcome(parsed: bool, program: str, problem: Problem, seconds: float, memory: int) -> Outcome:
    """One program that parses or not, in a process of its own"""
    if not parsed:
        return Outcome(False, False, False)
    task = {"code": program, "setup": problem.setup, "tests": problem.tests, "memory": memory}
    said = executed({**task, "seconds": math.ceil(seconds)}, seconds).split()
    return Outcome(True, "ran" in said, "passed" in said)


def executed(task: dict, seconds: float) -> str:
    """What `candidate.py` says of a task before its time is over"""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-I", str(CANDIDATE)], stdin=subprocess.PIPE, stdout=said, stderr=subprocess.DEVNULL,
            cwd=folder, env=kept, start_new_session=True,
        )  # fmt: skip
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(json.dumps(task).encode(), timeout=seconds)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # the session that began with it: itself and its children
            process.wait()
        said.seek(0)
        return said.read(100).decode(errors="replace")
