"""Rivals are timed in processes of their own, one at a time, rounds interleaved: A B C A B C ..."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compared.

    module:   run as `python -m module RIVAL`; prints one JSON line {"value": number, "losses": [numbers]}
    rivals:   their names; the first is what the others are compared with
    unit:     of the value
    better:   "higher" or "lower"
    bars:     {(rival, other): least ratio of their values that is hoped for}
    note:     what exactly is timed
    """

    name: str
    module: str
    rivals: tuple[str, ...]
    unit: str
    better: str
    bars: dict[tuple[str, str], float]
    note: str


def time_rival(case: Case, rival: str, timeout: float = 600) -> dict | None:
    """One round of one rival, in a process of its own; None (and a line that says so) where it is not installed."""
    done = subprocess.run(
        [sys.executable, "-m", case.module, rival], capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        if "ModuleNotFoundError" in done.stderr:
            print(f"{rival} is left out: {done.stderr.strip().splitlines()[-1]}; pip install -e '.[side_by_side]'")
            return None
        raise RuntimeError(f"{case.module} {rival} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def check_equal_work(results: dict[str, dict], tolerance: float = 1e-3) -> None:
    """All rivals start from the same weights and see the same batches, so their losses are the same."""
    with_losses = {name: np.array(result["losses"]) for name, result in results.items() if result.get("losses")}
    if not with_losses:
        return
    first, expected = next(iter(with_losses.items()))
    for name, losses in with_losses.items():
        worst = np.abs(losses - expected).max()
        if not worst < tolerance:
            raise RuntimeError(f"{name} does other work than {first}: their losses differ by {worst:.2e}")


def compare(case: Case, rivals: tuple[str, ...], rounds: int) -> dict:
    """Times all rivals in turn, `rounds` times: -> {"case", "unit", "rows": [...], "machine", "versions"}."""
    values: dict[str, list[float]] = {rival: [] for rival in rivals}
    for number in range(rounds):
        results = {}
        for rival in list(values):
            result = time_rival(case, rival)
            if result is None:
                del values[rival]
                continue
            results[rival] = result
            values[rival].append(result["value"])
            said = f"{case.name}, round {number + 1} of {rounds}: {rival} {result['value']:,.4g} {case.unit}"
            print(said, flush=True)
        check_equal_work(results)
    rows = []
    for rival, measured in values.items():
        row = {"rival": rival, "median": statistics.median(measured), "low": min(measured), "high": max(measured)}
        against = np.array(measured) / np.array(values[case.rivals[0]])
        row["ratio"], row["ratio_low"], row["ratio_high"] = np.median(against), against.min(), against.max()
        rows.append({name: float(v) if isinstance(v, np.floating) else v for name, v in row.items()})
    bars = []
    for (rival, other), bar in case.bars.items():
        if rival in values and other in values:
            each = np.array(values[rival]) / np.array(values[other])
            bars.append({"rival": rival, "other": other, "bar": bar, "ratio": float(np.median(each)),
                         "low": float(each.min()), "high": float(each.max())})  # fmt: skip
    return {"case": case.name, "unit": case.unit, "note": case.note, "rounds": rounds, "rows": rows, "bars": bars,
            "machine": machine(), "versions": versions()}  # fmt: skip


def markdown(result: dict, command: str) -> str:
    """The result as a section of RESULTS.md."""
    day = datetime.date.today().isoformat()
    lines = [
        f"## {result['case']}, {day}",
        "",
        f"{result['machine']}; {result['versions']}. {result['rounds']} rounds, interleaved, each rival in its own "
        f"process: median (lowest to highest). {result['note']}",
        "",
        f"    {command}",
        "",
        f"| rival | {result['unit']} | of {result['rows'][0]['rival']} |",
        "|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['rival']} | {row['median']:,.4g} ({row['low']:,.4g} to {row['high']:,.4g}) "
            f"| {row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}) |"
        )
    for bar in result["bars"]:
        lines.append(
            f"\n{bar['rival']} / {bar['other']}: **{bar['ratio']:.2f}** ({bar['low']:.2f} to {bar['high']:.2f}), "
            f"hoped for {bar['bar']:g}"
        )
    return "\n".join(lines) + "\n"


def figure(result: dict):
    """Bars of the medians with their spread."""
    from matplotlib.figure import Figure

    rows = result["rows"]
    drawn = Figure((7, 0.5 * len(rows) + 1), layout="constrained")
    axes = drawn.add_subplot()
    middle = np.array([row["median"] for row in rows])
    spread = [middle - [row["low"] for row in rows], [row["high"] for row in rows] - middle]
    names = [row["rival"].replace("_", " ") for row in rows]
    colours = ["#1f6fb4" if name.startswith("jann") else "#b8bec6" for name in names]
    axes.barh(names, middle, xerr=spread, color=colours, error_kw={"lw": 1, "ecolor": "#444"})
    axes.invert_yaxis()
    axes.set_xlabel(result["unit"])
    axes.spines[["top", "right"]].set_visible(False)
    return drawn


def machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{os.cpu_count()} cores of {model}"


def versions() -> str:
    def version(package):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    packages = ("jax", "optax", "flax", "equinox", "dm-haiku", "torch")
    known = [f"{package} {found}" for package in packages if (found := version(package))]
    return f"Python {platform.python_version()}, {', '.join(known)}"


def serve(rivals: dict[str, Callable[[], dict]]) -> None:
    """What a case's module does when run: times the rival named on the command line, prints JSON."""
    print(json.dumps(rivals[sys.argv[1]]()))
