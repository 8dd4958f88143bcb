"""How the time of jann's training step grows with the size of the work, beside how its multiplications grow.

    python -m experiments.side_by_side.scaling

A GPT by width, depth, sequence length and batch, and the small MLP by how many seeds are trained together. A slope in
a plot of logarithms is a power: where time grows more slowly than multiplications, something else takes it at first.
"""

import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.side_by_side.cases import decoders, small_mlp
from experiments.side_by_side.cases.decoders import Sizes
from experiments.side_by_side.report import RECORD, machine, made, section
from jann.plots.style import COLORS, FAINT, Picture, house_style, quiet
from jann.training import write_json

BASE, BATCH = Sizes(vocab=65, time=128, embed=128, layers=4, heads=4), 8
SEEDS_STEPS = 100  # of the small MLP, in one scan
POINTS = {
    "width": (64, 128, 256, 512),
    "depth": (1, 2, 4, 8, 16),
    "sequence length": (64, 128, 256, 512),
    "batch": (1, 2, 4, 8, 16, 32),
    "seeds": (1, 2, 4, 8, 16, 32, 64),
}

Work = tuple[Callable[[], Any], int]  # a function that takes a step and waits for it; multiplications of that


def gpt(sizes: Sizes, batch: int) -> Work:
    """A step of AdamW of a decoder."""
    import jax
    import jax.numpy as jnp
    import optax

    import jann

    model, optimizer = decoders.jann_model(sizes), optax.adamw(1e-3)
    step = jax.jit(jann.make_step(jann.objective(model, jann.language, "token"), optimizer), donate_argnums=0)
    state = jax.jit(lambda key: jann.start(model, optimizer, key))(jax.random.key(0))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, sizes.vocab, (batch, sizes.time + 1)))
    arrays = {"token": tokens[:, :-1], "label": tokens[:, 1:]}

    def take():
        nonlocal state
        state, metrics = step(state, arrays)
        jax.block_until_ready((state, metrics))

    return take, 3 * decoders.multiplications(sizes, batch)


def seeds(members: int) -> Work:
    """Some steps of as many small MLPs as there are seeds, on the same batches."""
    import jax
    import optax

    import jann

    model, optimizer = small_mlp.jann_model(), optax.adam(small_mlp.LEARNING_RATE)
    step = jann.make_step(jann.objective(model), optimizer)
    batches = jann.data.batches(small_mlp.digits(), small_mlp.BATCH, jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), members)
    state = jax.vmap(lambda key: jann.start(model, optimizer, key))(keys)

    def take():
        for new, metrics in jann.chunks(step, batches, state, SEEDS_STEPS, SEEDS_STEPS):
            jax.block_until_ready((new, metrics))

    weights = sum(a * b for a, b in pairwise(small_mlp.SIZES))
    return take, 3 * members * SEEDS_STEPS * small_mlp.BATCH * weights


def work(axis: str, value: int) -> Work:
    """The base with one size changed."""
    if axis == "seeds":
        return seeds(value)
    changed = {"width": "embed", "depth": "layers", "sequence length": "time"}
    sizes = BASE._replace(**{changed[axis]: value}) if axis in changed else BASE
    return gpt(sizes, value if axis == "batch" else BATCH)


def measured(axis: str, values: tuple[int, ...], rounds: int, seconds: float) -> dict[str, Any]:
    """{"seconds", "multiplications", "slope", "multiplications_slope"} along one axis, rounds taking turns."""
    works = [work(axis, value) for value in values]
    counts = []
    for take, _ in works:
        take()  # compiled
        clock = time.perf_counter()
        take()
        counts.append(max(1, round(seconds / (time.perf_counter() - clock))))
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for (take, _), count, found in zip(works, counts, taken, strict=True):
            clock = time.perf_counter()
            for _ in range(count):
                take()
            found.append((time.perf_counter() - clock) / count)
    medians = [statistics.median(found) for found in taken]
    multiplications = [count for _, count in works]
    return {
        "axis": axis, "values": list(values), "seconds": medians, "multiplications": multiplications,
        "slope": slope(values, medians), "multiplications_slope": slope(values, multiplications),
    }  # fmt: skip


def slope(x, y) -> float:
    """The power p of the y = c x^p that fits best, in logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@house_style
def picture(rows: list[dict[str, Any]]) -> Figure:
    """Time along each axis, and in grey a line of its multiplications' slope through the last point."""
    columns = min(3, len(rows))
    figure = Picture((2.6 * columns, 2.3 * -(-len(rows) // columns)), layout="constrained")
    for i, row in enumerate(rows, 1):
        axes = quiet(figure.add_subplot(-(-len(rows) // columns), columns, i))
        values, seconds = np.array(row["values"]), np.array(row["seconds"])
        multiplications = np.array(row["multiplications"], float)
        axes.loglog(values, multiplications * seconds[-1] / multiplications[-1], color=FAINT, linestyle="--")
        axes.loglog(values, seconds, color=COLORS[0], marker="o", markersize=4)
        axes.set_xticks(values, [str(value) for value in values])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        slopes = f"slope {row['slope']:.2f}, multiplications {row['multiplications_slope']:.2f}"
        axes.set(xlabel=row["axis"], ylabel="seconds")
        axes.set_title(slopes, fontsize=8)
    return figure


def main(
    axes: tuple[str, ...] = tuple(POINTS),
    rounds: int = 5,
    seconds: float = 0.3,
    out: Path = Path("runs/side_by_side/scaling"),
    record: bool = False,
) -> None:
    """Times jann's training step along each axis and prints the power with which it grows.

    Args:
        axes: Which of width, depth, sequence length, batch and seeds.
        rounds: Turns of each size, interleaved; the median counts.
        seconds: About how long a turn takes (at least one step).
        out: Where results.json and scaling.png go.
        record: Also append the table to experiments/side_by_side/RESULTS.md; the machine should do nothing else.
    """
    if unknown := set(axes) - set(POINTS):
        raise SystemExit(f"--axes {' '.join(unknown)}: there are {', '.join(POINTS)}")
    made(out)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    before = machine()
    rows, lines = [], [
        "| | from – to | seconds a step | slope of time | slope of multiplications |", "|---|---:|---:|---:|---:|"
    ]  # fmt: skip
    print("\n".join(lines))
    for axis in axes:
        row = measured(axis, POINTS[axis], rounds, seconds)
        rows.append(row)
        values, times = row["values"], row["seconds"]
        lines.append(
            f"| {axis} | {values[0]} – {values[-1]} | {times[0]:.3g} – {times[-1]:.3g} | {row['slope']:.2f} "
            f"| {row['multiplications_slope']:.2f} |"
        )
        print(lines[-1], flush=True)
    write_json(out / "results.json", {"machine": before, "rows": rows})
    picture(rows).savefig(out / "scaling.png")
    print(f"wrote {out}")
    if record:
        work = f"{__doc__.splitlines()[0]} Medians of {rounds} rounds."
        with RECORD.open("a") as file:
            file.write(section("scaling", work, "experiments.side_by_side.scaling", before, lines) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
