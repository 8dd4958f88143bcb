"""What a comparison leaves: a Markdown table, a picture, and the figures of every round."""

import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.side_by_side.harness import Bar, Case, Timing, speed_ratios
from jann.plots.style import COLORS, FAINT, INK, chart, house_style

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "flax", "equinox", "dm-haiku", "keras", "torch", "transformers")
RECORD = Path(__file__).parent / "RESULTS.md"
WIDE = 20  # times the median rival: from there on a picture goes by powers of ten


def made(folder: Path) -> Path:
    """The folder for what is found, made before anything is timed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"--out: the folder cannot be made ({error}): choose another") from None
    return folder


def machine() -> dict:
    """The processor, how many cores this process may use, how busy they are, and what is installed."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        named = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = named.group(1) if named else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cpu": model, "cores": cores, "load": round(os.getloadavg()[0], 2), "versions": versions}


def summary(case: Case, timings: dict[str, Timing]) -> dict:
    """{"case", "unit", "limits", "rows", "bars"}: medians and extremes over rounds, and every round's figure."""
    reference = case.reference if case.reference in timings else next(iter(timings))
    limits = [name for name, timing in timings.items() if timing.limit]
    rows = [
        {
            "rival": name,
            **spread(timing.figures),
            "with_compilation": spread(timing.whole)["median"],
            "reference_faster": spread(speed_ratios(case, timings[reference], timing)),
            "of_limits": {limit: spread(speed_ratios(case, timing, timings[limit])) for limit in limits},
            "megabytes": spread(timing.megabytes)["high"] if timing.megabytes else None,
            "rounds": timing.figures,
        }
        for name, timing in timings.items()
    ]
    present = {None, *timings}
    bars = [judged(case, bar, timings) for bar in case.bars if bar.ours in timings and bar.theirs in present]
    found = {"case": case.name, "work": case.work, "unit": case.unit, "less_is_better": case.less_is_better}
    return {**found, "reference": reference, "limits": limits, "rows": rows, "bars": bars}


def spread(values) -> dict[str, float]:
    return {"median": float(np.median(values)), "low": float(np.min(values)), "high": float(np.max(values))}


def judged(case: Case, bar: Bar, timings: dict[str, Timing]) -> dict:
    ours, theirs = timings[bar.ours], timings.get(bar.theirs)
    if bar.times is not None:
        found = spread(speed_ratios(case, ours, theirs))
        return {"bar": str(bar), **found, "met": found["median"] >= bar.times}
    if bar.memory is not None:
        found = spread(np.array(ours.megabytes) / np.array(theirs.megabytes))
        return {"bar": str(bar), **found, "met": found["median"] <= bar.memory}
    found = spread(np.array(ours.figures) - (0 if theirs is None else np.array(theirs.figures)))
    return {"bar": str(bar), **found, "met": found["median"] <= bar.seconds}


def markdown(found: dict, machine: dict, rounds: int) -> str:
    """The tables, with the machine, the date and the command, ready to be kept."""
    unit, reference = found["unit"], found["reference"]
    compiles = any(shown(row["with_compilation"]) != shown(row["median"]) for row in found["rows"])
    memory = unit != "MB" and any(row["megabytes"] is not None for row in found["rows"])
    extremes = "fastest – slowest round" if found["less_is_better"] else "slowest – fastest round"
    head = ["", unit, "least – most" if unit == "MB" else extremes]
    head += [f"times as much as {reference}" if unit == "MB" else f"{reference} is so many times as fast"]
    head += [f"part of the limit, {limit}" for limit in found["limits"]]
    head += ["with compilation"] * compiles + ["peak memory, MB"] * memory
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in found["rows"]:
        cells = [row["rival"], shown(row["median"]), f"{shown(row['low'])} – {shown(row['high'])}"]
        cells += [ratio(row["reference_faster"])]
        cells += [f"{row['of_limits'][limit]['median']:.3g}" for limit in found["limits"]]
        cells += [shown(row["with_compilation"])] * compiles
        cells += ["" if row["megabytes"] is None else shown(row["megabytes"])] * memory
        lines.append("| " + " | ".join(cells) + " |")
    if found["bars"]:
        lines += ["", "| wanted | found | |", "|---|---:|---|"]
        for bar in found["bars"]:
            lines.append(f"| {bar['bar']} | {ratio(bar)} | {'met' if bar['met'] else 'missed'} |")
    work = f"{found['work'][0].upper()}{found['work'][1:]}. Medians of {rounds} rounds, in brackets the extremes."
    return section(found["case"], work, "experiments.side_by_side", machine, lines)


def section(title: str, work: str, module: str, machine: dict, lines: list[str]) -> str:
    """A part of RESULTS.md: the date, the work, the command, the machine, the table."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return "\n".join([
        f"## {title}, {datetime.date.today()}", "", work, "",
        f"`python -m {module} {shlex.join(sys.argv[1:])}`", "",
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']} before the start; {versions}", "",
        *lines, "",
    ])  # fmt: skip


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(found: dict) -> str:
    return f"{found['median']:.2f} ({found['low']:.2f} – {found['high']:.2f})"


@house_style
def picture(found: dict) -> Figure:
    """A bar a rival, fastest on top, with a line from its slowest to its fastest round; jann's own in colour."""
    rows = sorted(found["rows"], key=lambda row: row["median"], reverse=found["less_is_better"])
    medians = np.array([row["median"] for row in rows])
    extremes = np.abs([[row["low"], row["high"]] for row in rows] - medians[:, None]).T
    figure, axes = chart(6.0, 0.8 + 0.3 * len(rows))
    ours = ["jann" in row["rival"] or row["rival"].startswith("sweep") for row in rows]
    axes.barh(
        [row["rival"] for row in rows], medians, xerr=extremes, height=0.65, ecolor=INK,
        color=[COLORS[0] if own else FAINT for own in ours], error_kw={"elinewidth": 1, "capsize": 2},
    )  # fmt: skip
    axes.grid(axis="y", visible=False)
    if max(medians) > WIDE * sorted(medians)[len(medians) // 2]:  # a limit so far away that rivals look alike
        axes.set_xscale("log")
    axes.set(xlabel=f"{found['unit']} ({'less' if found['less_is_better'] else 'more'} is better)", title=found["case"])
    return figure
