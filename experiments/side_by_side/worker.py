"""The process of one rival: python -m experiments.side_by_side.worker CASE RIVAL START.npz

Answers in JSON lines: first its first losses, then for each number of portions on its input what they took.
"""

import json
import os
import sys
import time

import numpy as np

from experiments.side_by_side.cases import CASES


def main(case_name: str, rival: str, file: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    case = CASES[case_name]
    try:
        advance = case.rivals[rival](dict(np.load(file)))
    except ModuleNotFoundError as error:
        answer(missing=error.name)
        return
    compiling = compilation_spans() if "jax" in sys.modules else []
    losses = np.asarray(advance(1), np.float64)[..., : case.checked]
    answer(losses=losses.tolist())
    for line in sys.stdin:
        compiling.clear()
        clock = time.perf_counter()
        advance(int(line))
        answer(seconds=time.perf_counter() - clock, compiling=covered(compiling))


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
