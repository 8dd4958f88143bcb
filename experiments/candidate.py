"""Executes one program and its tests: what `programs.py` starts, in a process of its own. Knows nothing of jann."""

import contextlib
import json
import os
import resource
import sys


def main() -> None:
    """Reads {"code", "setup", "tests", "seconds", "memory"} as JSON; writes "ran" and "passed" as far as it comes."""
    task = json.load(sys.stdin)
    report = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what the program writes is no report, and it has nothing to read
        os.dup2(nowhere, stream)
    limits = {
        resource.RLIMIT_CPU: task["seconds"],
        resource.RLIMIT_AS: task["memory"],
        resource.RLIMIT_FSIZE: 2**20,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, amount in limits.items():
        with contextlib.suppress(ValueError, OSError):  # where a stricter one stands, or the system knows none
            resource.setrlimit(limit, (amount, amount))
    names = {"__name__": "candidate"}
    exec(compile(f"{task['setup']}\n{task['code']}", "candidate", "exec"), names)
    os.write(report, b"ran ")
    for test in task["tests"]:
        exec(compile(test, "test", "exec"), names)
    os.write(report, b"passed")


if __name__ == "__main__":
    main()
