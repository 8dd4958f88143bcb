"""What the experiments on text, sound and music share: an optimiser, tokens a second, a report of one row."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optax

import jann
from experiments.reporting import over_seeds, show_table, write_results
from experiments.schedules import warmup_cosine


def adamw(
    model: jann.Model, learning_rate: float, weight_decay: float, steps: int, clip: float = 1.0
) -> optax.GradientTransformation:
    """AdamW with a warm-up over a twentieth of the steps and a cosine to zero; gradients clipped by their norm."""
    schedule = warmup_cosine(learning_rate, steps)
    inner = optax.inject_hyperparams(optax.adamw, static_args=("mask",))
    return optax.chain(
        optax.clip_by_global_norm(clip), inner(schedule, weight_decay=weight_decay, mask=jann.decay_mask(model))
    )


def with_speed(evaluate: Callable[[Any], dict], tokens_a_step: int) -> Callable[[Any], dict]:
    """`evaluate` of `jann.fit`, that also says the tokens a second of training since the last time it was called."""
    before, clock = None, 0.0

    def evaluated(train_state):
        nonlocal before, clock
        step, took = int(train_state.step), time.perf_counter() - clock
        # Not the first time, as that was compiling.
        row = {} if before is None else {"tokens_per_second": round((step - before) * tokens_a_step / took)}
        row.update(evaluate(train_state))
        before, clock = step, time.perf_counter()
        return row

    return evaluated


def report(folder: Path, title: str, row: dict, measured: dict[str, list[float]], published: str) -> None:
    """Writes `results.json`, one row with the interval of each measured value over its seeds, and prints it."""
    intervals = {name: over_seeds([float(value) for value in values]) for name, values in measured.items()}
    row = {**row, **intervals, "published": published}
    write_results(folder, [row])
    show_table([{name: value for name, value in row.items() if name != "model"}], title)
    print(f"wrote {folder}")
