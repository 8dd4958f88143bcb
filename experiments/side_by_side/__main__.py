"""jann beside its rivals: each in a process of its own, at the same work, in rounds.

    python -m experiments.side_by_side --case small_mlp --rivals jann_train raw_loop nnx torch
    python -m experiments.side_by_side --case sweep --record
"""

import os
from pathlib import Path

import tyro

from experiments.side_by_side.cases import CASES
from experiments.side_by_side.harness import time_rivals
from experiments.side_by_side.report import RECORD, machine, made, markdown, picture, summary
from jann.training import write_json


def main(
    case: str = "small_mlp",
    rivals: tuple[str, ...] = (),
    rounds: int = 7,
    seconds: float = 1.0,
    out: Path = Path("runs/side_by_side"),
    record: bool = False,
) -> None:
    """Times rivals at the same work and prints how they compare.

    Args:
        case: The work. Training: small_mlp, sweep, lenet, resnet20, lstm, gpt, gpt_small, gpt_124m, gpt_bf16, mixture,
            memory. Inference: forward, decode, decode_32, decode_bf16, vit, diffusion. Waiting: import, first_step,
            compile, loading, pipeline, checkpoint, restore, pause.
        rivals: Who takes part; by default all of the case. Those that are not installed are skipped.
        rounds: Turns of each rival, interleaved: A B C, A B C, ...
        seconds: About how long a turn takes (at least one portion of the case's work).
        out: Where results.json and speed.png go, in a folder named after the case.
        record: Also append the table to experiments/side_by_side/RESULTS.md; the machine should do nothing else.
    """
    if case not in CASES:
        raise SystemExit(f"--case {case}: there are {', '.join(CASES)}")
    chosen = CASES[case]
    unknown = [name for name in rivals if name not in chosen.rivals]
    if unknown:
        raise SystemExit(f"--rivals {' '.join(unknown)}: {case} has {', '.join(chosen.rivals)}")
    if rounds < 1:
        raise SystemExit(f"--rounds {rounds}: at least one is needed")
    folder = made(out / case)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # as the rivals outside JAX are timed there, all are
    before = machine()
    timings = time_rivals(chosen, list(rivals or chosen.rivals), rounds, seconds)
    if not timings:
        raise SystemExit("none of the rivals is installed")
    found = summary(chosen, timings)
    write_json(folder / "results.json", {"machine": before, **found})
    picture(found).savefig(folder / "speed.png")
    text = markdown(found, before, rounds)
    print(f"\n{text}\nwrote {folder}")
    if record:
        with RECORD.open("a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    tyro.cli(main)
