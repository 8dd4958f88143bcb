"""What experiments do alike: one run a seed, what stays in the run folder, and what is said at the end."""

import contextlib
import json
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import tyro
from matplotlib.figure import Figure

import jann
from jann.analysis import interval
from jann.training import write_json


def command(main: Callable) -> None:
    """Runs `main` with the options of the command line.

    What jann or an experiment says is wrong with them, or with files, is one plain line and exit code 1: an error that
    a `raise` of theirs made. Others come with their traceback.
    """
    try:
        tyro.cli(main)
    except (ValueError, OSError, ImportError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        own = any(Path(last.filename).is_relative_to(Path(file).parent) for file in (jann.__file__, __file__))
        if own and last.line.startswith("raise "):
            raise SystemExit(str(error)) from None
        raise


def given(**options: Any) -> dict:
    """Those of the options that are not None, which stands for "by default": 0 and () are asked for"""
    return {name: value for name, value in options.items() if value is not None}


def at_least_one(**options: int | tuple | None) -> None:
    """Raises SystemExit for an option below 1, or without a part; None, not given, is right."""
    for name, value in given(**options).items():
        if (len(value) if isinstance(value, tuple) else value) < 1:
            raise SystemExit(f"--{name.replace('_', '-')} {value}: give at least one")


def more_than_zero(**options: float | None) -> None:
    """Raises SystemExit for an option of 0 or below, infinite or not a number; None, not given, is right."""
    for name, value in given(**options).items():
        if not 0 < value < math.inf:
            raise SystemExit(f"--{name.replace('_', '-')} {value:g}: give more than 0, and finite")


def not_negative(**options: float | None) -> None:
    """Raises SystemExit for an option below 0, infinite or not a number; None, not given, is right."""
    for name, value in given(**options).items():
        if not 0 <= value < math.inf:
            raise SystemExit(f"--{name.replace('_', '-')} {value:g}: give 0 or more, and finite")


def below_one(**options: float | None) -> None:
    """Raises SystemExit for an option that is not from 0 to less than 1; None, not given, is right."""
    for name, value in given(**options).items():
        if not 0 <= value < 1:
            raise SystemExit(f"--{name.replace('_', '-')} {value:g}: give from 0 to less than 1")


def each_seed(folder: Path, seeds: int, seed: int, train_one: Callable[[Path, int], Any]) -> list:
    """[train_one(folder of the run, its seed), ...], each `stoppable`"""
    results = []
    for number in range(seed, seed + seeds):
        print(f"seed {number}", flush=True)
        with stoppable(folder):
            results.append(train_one(folder / f"seed-{number}", number))
    return results


@contextlib.contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """Around what trains, and raises KeyboardInterrupt where `jann.fit` came back early: that ends the process.

    So does a ctrl-C that came too late for a fit, in its last chunk, which `jann.fit` hands on in `asked`.
    """
    with Around() as around:
        try:
            yield
            if around.asked:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            interrupted(folder)


class Around(jann.training.Interrupt):
    """Is told of a ctrl-C by what it is around; one that comes to itself interrupts at once."""

    def _ask(self, *_):
        raise KeyboardInterrupt


def interrupted(folder: Path) -> NoReturn:
    """Says so and ends the process with 130, as shells have it, so that in `a && b` no b follows."""
    print(f"interrupted; what is finished is kept in {folder}, the same command goes on")
    raise SystemExit(130)


def write_results(folder: Path, rows: list[dict]) -> None:
    """`results.json`: {"rows": [...]}. No times in it, so that two equal runs write equal files."""
    write_json(folder / "results.json", {"rows": rows})


def write_metrics(folder: Path, rows: list[dict]) -> None:
    """`metrics.jsonl`: one measurement a line."""
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def over_seeds(values: Any) -> dict:
    """values[seeds] -> {"mean", "low", "high", "seeds"}, with the 95 % interval of the mean."""
    mean, low, high = map(float, interval(np.asarray(values)))
    return {"mean": mean, "low": low, "high": high, "seeds": np.asarray(values, float).tolist()}


def plus_minus(measured: dict, form: str = ".4f") -> str:
    """What `over_seeds` gives -> mean ± half the interval, which one seed does not have"""
    half = (measured["high"] - measured["low"]) / 2
    return f"{measured['mean']:{form}}" + ("" if np.isnan(half) else f" ± {half:{form}}")


def metric_curves(histories: Sequence[dict], metrics: dict[str, str], **options: Any) -> Figure:
    """Curves over training, with intervals over the runs whose `histories` are given: `metrics` by their labels.

    options:  of `jann.plots.curves`; by default the positions are the steps
    """
    series = {label: np.stack([history[name] for history in histories]) for label, name in metrics.items()}
    return jann.plots.curves(series, **{"x": histories[0]["step"], **options})


def save_figures(folder: Path, **figures: Figure) -> None:
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def show_table(rows: list[dict], title: str) -> None:
    """Prints rows as a table: numbers plain, {"mean", "low", "high"} as mean ± half the interval."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # names as they are: [m] is no markup

    table = Table(title=Text(title), title_justify="left")
    for name in rows[0]:
        table.add_column(Text(name.replace("_", " ")), justify="right")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console()
    if not (console.is_terminal or console.is_jupyter):
        console = Console(width=140)  # a log file has room
    console.print(table)


def mistakes(dataset: Any, images: np.ndarray, labels: np.ndarray, logits: np.ndarray, most: int = 16) -> Figure | None:
    """The examples that were most confidently mistaken, as pictures; None if there are none."""
    shifted = logits - logits.max(-1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    said = probabilities.argmax(-1)
    wrong = np.flatnonzero(said != labels)
    if not len(wrong):
        return None
    worst = wrong[np.argsort(-probabilities[wrong, said[wrong]])][:most]
    captions = [
        f"{dataset.classes[labels[i]]}, said {dataset.classes[said[i]]} ({probabilities[i, said[i]]:.2f})"
        for i in worst
    ]
    return jann.plots.images(images[worst] / dataset.scale, captions, columns=4, title="Worst mistakes (true, said)")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return plus_minus(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
