"""The process of one rival: python -m experiments.side_by_side.worker CASE RIVAL START.npz

Answers in JSON lines: first its first losses, then for each number of portions on its input what they took.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from experiments.side_by_side.cases import CASES
from experiments.side_by_side.harness import Measured


def main(case_name: str, rival: str, file: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    case = CASES[case_name]
    start = dict(np.load(file))
    if case.files is not None:
        start["folder"] = Path(file).parent
    try:
        advance = case.rivals[rival](start)
    except ModuleNotFoundError as error:
        answer(missing=error.name)
        return
    compiling = compilation_spans() if "jax" in sys.modules else []
    losses = np.asarray(measured(advance(1)).losses, np.float64)[..., : case.checked]
    answer(losses=losses.tolist())
    for line in sys.stdin:
        compiling.clear()
        clock = time.perf_counter()
        found = measured(advance(int(line)))
        took = time.perf_counter() - clock
        if found.seconds is None:
            answer(seconds=took, compiling=covered(compiling), megabytes=found.megabytes)
        else:
            answer(seconds=found.seconds, compiling=0, megabytes=found.megabytes)


def measured(found) -> Measured:
    """What an Advance returned, in the form that says the most."""
    return found if isinstance(found, Measured) else Measured(found)


def compilation_spans() -> list[tuple[float, float]]:
    """A list to which JAX adds (begin, end) of each tracing, lowering and compilation from now on."""
    import jax

    spans = []

    def note(event, seconds, **_):
        if event.startswith("/jax/core/compile/"):
            end = time.perf_counter()
            spans.append((end - seconds, end))

    jax.monitoring.register_event_duration_secs_listener(note)
    return spans


def covered(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by (begin, end) spans, which may lie in each other."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


if __name__ == "__main__":
    main(*sys.argv[1:])
