"""jann beside its rivals, the same work in each.

    pip install -e '.[side_by_side]'
    python -m experiments.side_by_side --rounds 5
"""

import json
import shlex
import sys
from pathlib import Path

import tyro

from experiments.side_by_side import imports, small_mlp, sweeps
from experiments.side_by_side.harness import compare, figure, markdown

CASES = {"small_mlp": small_mlp.CASE, "sweep": sweeps.CASE, "import": imports.CASE}


def main(
    case: tuple[str, ...] = tuple(CASES),
    rivals: tuple[str, ...] = (),
    rounds: int = 5,
    out: Path = Path("runs/side_by_side"),
    record: bool = False,
) -> None:
    """Times jann and its rivals in turn, checks that they do the same work, prints tables and draws them.

    Args:
        case: Which comparisons: small_mlp, sweep, import.
        rivals: Only these (of all cases); by default all that are installed.
        rounds: How often each is timed.
        out: Where tables, pictures and numbers go.
        record: Also append the tables to experiments/side_by_side/RESULTS.md.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in case:
        if name not in CASES:
            raise SystemExit(f"--case {name}: choose of {', '.join(CASES)}")
        known = CASES[name].rivals
        chosen = tuple(rival for rival in known if not rivals or rival in rivals or rival == known[0])
        result = compare(CASES[name], chosen, rounds)
        table = markdown(result, "python -m experiments.side_by_side " + shlex.join(sys.argv[1:]))
        print(f"\n{table}")
        (out / f"{name}.md").write_text(table)
        (out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        figure(result).savefig(out / f"{name}.png", dpi=150)
        if record:
            with (Path(__file__).parent / "RESULTS.md").open("a") as file:
                file.write("\n" + table)


if __name__ == "__main__":
    tyro.cli(main)
