"""A whole experiment, seeds × hyper-parameters, as one compiled program."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jann.analysis import interval
from jann.drawing import checked_key
from jann.training.fit import Interrupt
from jann.training.logs import Progress, open_run
from jann.training.sweep_folder import Store
from jann.training.sweep_identity import Identity, named, shown
from jann.trees import Tree, flatten

FORMS = ("map", "vmap")
OF_TRACED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
WORTH_MEASURING = 64  # fewer runs of one shape finish before a second compilation pays for itself


def sweep(
    experiment: Callable[..., dict],
    *,
    seeds: int = 8,
    key: jax.Array | None = None,
    folder: str | Path | None = None,
    chunk: int | None = None,
    form: str = "auto",
    static: str | tuple[str, ...] = (),
    progress: bool = True,
    **grid: Any,
) -> Sweep:
    """Runs `experiment(key, **hyperparameters) -> {name: array}` for every seed and every point of the grid.

    A list (or a one-dimensional array) is an axis of the grid, anything else one value for all. Floats are traced, so
    all of them share one compilation; everything else (ints, tuples, names, functions, models), and what `static`
    names, may change shapes and is compiled once a value. Seed i has the same key at every point.

    Runs go `chunk` at a time over all devices. On several CPU cores call `jann.cpu_devices()` before JAX is first used.

    folder:  finished chunks are kept there, and the same sweep goes on where it was interrupted; see below
    chunk:   runs in one compiled call: by default an eighth of the runs, less where memory asks for it
    form:    "vmap" trains a device's runs side by side, "map" one after another. "auto" is vmap on accelerators; on CPU
             map, or with 64 runs and more whichever was faster in the first chunks
    static:  names of floats that are constants of the program, such as a model's field: `static=("dropout",)`

    A folder goes on with the same seeds, key, grid and experiment. Of an experiment are compared: its name, its code
    (not its lines, comments and docstring), its defaults, what a partial gives it, the attributes of the object whose
    method it is, what it closes over, and the globals that it reads; the same of the functions and classes of its own
    module that it holds or names, whereas others are known by name, and by what they close over. Values are compared
    if they are numbers, strings, tuples, functions, classes, models, frozen dataclasses, objects of the module's own
    classes, or arrays, in lists and dicts too. What else lists and dicts hold may change as it runs and is not
    compared, nor are other objects, nor the code of other modules.

    Ctrl-C stops after the present chunk and returns what is finished. Raises ValueError for a grid without values or an
    experiment that does not return a dict of arrays, RunFolderError when the folder holds another sweep, TypeError
    inside another traced program. What an experiment raises has a note that names the runs.
    """
    if seeds < 1:
        raise ValueError(f"seeds={seeds}: a sweep needs at least one")
    if form not in ("auto", *FORMS):
        raise ValueError(f"form={form!r}: choose 'auto', 'map' or 'vmap'")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk}: at least one run goes at a time")
    static = (static,) if isinstance(static, str) else tuple(static)
    if unknown := set(static) - grid.keys():
        raise ValueError(f"static={static!r}: the grid has no {', '.join(sorted(unknown))}, it has {', '.join(grid)}")
    axes = {name: _axis(name, values) for name, values in grid.items()}
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    key = jax.random.key(0) if key is None else checked_key(key)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(seeds))
    if isinstance(keys, jax.core.Tracer):
        raise TypeError("sweep is a loop in Python: inside jit or an experiment of a sweep use jax.vmap over keys")
    if folder is not None:
        identity = Identity(experiment)
        config = {"experiment": named(identity.function), "seeds": seeds,
                  "grid": {name: [identity(value) for value in values] for name, values in axes.items()},
                  "key": np.asarray(jax.random.key_data(key)).tolist()}  # fmt: skip
        folder = open_run(folder, config, "sweep.json") / "chunks"
        open_run(folder.parent, identity.parts(experiment), "experiment.json")
        folder.mkdir(exist_ok=True)
    result = Sweep(points, seeds, {})
    with Interrupt() as interrupt, Progress("sweep", len(points) * seeds, progress) as bar:
        for number, (constants, members) in enumerate(_groups(points, static)):
            store = None if folder is None else Store(folder, number)
            runs = [(point, seed) for point in members for seed in range(seeds)]
            inputs = (
                keys[np.array([seed for _, seed in runs])],
                {name: np.array([points[point][name] for point, _ in runs], np.float32)
                 for name in points[members[0]] if name not in constants},
            )  # fmt: skip
            group = _Group(partial(experiment, **constants), inputs, len(runs), chunk, form, store)
            try:
                for start, values in group.finished():
                    for i, run in enumerate(runs[start : start + len(values)]):
                        result.runs[run] = values[i]
                    bar.update(len(result.runs), group.note)
                    if interrupt.asked:
                        return result
            except Exception as error:
                _annotate(error, result, constants, inputs[1], folder)
                raise
    return result


def _annotate(error: Exception, result: Sweep, constants: dict, traced: dict, folder: Path | None) -> None:
    """Notes for an error: in which runs, what becomes of the finished ones, how what is traced becomes constant."""
    hyper = {name: str(shown(value)) for name, value in constants.items()} | dict.fromkeys(traced, "(traced)")
    where = ", ".join(f"{name}={text:.60}" for name, text in hyper.items())
    kept = f", kept in {folder.parent}" if folder else ", and lost: with folder=... they are kept"
    done, of = len(result.runs), len(result.points) * result.seeds
    error.add_note(
        f"in the runs of the sweep with {where or 'no values'}; {done} of {of} are finished{kept * (done > 0)}"
    )
    if traced and isinstance(error, OF_TRACED):
        error.add_note(f"floats of a sweep are traced: static={tuple(traced)!r} makes constants of them")


@dataclasses.dataclass(frozen=True, repr=False)
class Sweep:
    """The runs of a sweep; prints as a table of means and 95 % intervals over seeds.

    points:  the hyper-parameters of each point of the grid
    seeds:   how many runs a point has
    runs:    {(point, seed): results of that run}; an interrupted sweep lacks some
    """

    points: list[dict]
    seeds: int
    runs: dict[tuple[int, int], Tree]

    @property
    def complete(self) -> bool:
        return len(self.runs) == len(self.points) * self.seeds

    def results(self, point: int) -> Tree:
        """What the experiment returned at a point, stacked over its finished seeds: each leaf [seeds, ...]."""
        found = [self.runs[point, seed] for seed in range(self.seeds) if (point, seed) in self.runs]
        if not found:
            raise ValueError(f"no run of point {point} ({self.points[point]}) is finished")
        return jax.tree.map(lambda *leaves: np.stack(leaves), *found)

    def __getitem__(self, name: str) -> np.ndarray:
        """Result `name` of every run, [points, seeds, ...]; one in another by its path, "test/accuracy".

        Raises KeyError that says what there is, ValueError where runs are missing or shapes differ between points.
        """
        missing = len(self.points) * self.seeds - len(self.runs)
        if missing:
            raise ValueError(f"{missing} runs are not finished: results(point) gives those of a point that are")
        values = [self._result(name, point) for point in range(len(self.points))]
        if len(shapes := {leaf.shape[1:] for leaf in values}) > 1:
            differ = " or ".join(map(str, sorted(shapes)))
            raise ValueError(f"{name!r} is not of one shape at every point, {differ}: take results(point)[{name!r}]")
        return np.stack(values)

    def _result(self, name: str, point: int) -> np.ndarray:
        found = flatten(self.results(point))
        if name not in found:
            raise KeyError(f"no result {name!r} at point {point}, which has {', '.join(map(repr, found))}")
        return found[name]

    def best(self, name: str, mode: str = "max") -> int:
        """The point whose mean of result `name` is largest (or smallest: mode="min"); diverged points never win.

        Raises ValueError where no mean is finite.
        """
        if mode not in ("max", "min"):
            raise ValueError(f"mode={mode!r}: choose 'max' or 'min'")
        sign = 1 if mode == "max" else -1
        finished = {point for point, _ in self.runs}
        means = {point: sign * float(np.mean(self._result(name, point))) for point in finished}
        finite = [point for point in sorted(means) if math.isfinite(means[point])]
        if not finite:
            raise ValueError(f"no finite mean of {name!r} at any of the {len(means)} points that have finished runs")
        return max(finite, key=means.get)

    def rows(self) -> list[dict]:
        """One dict a point: hyper-parameters, then {"mean", "low", "high", "seeds"} of each scalar result."""
        rows = []
        for i, point in enumerate(self.points):
            if not any((i, seed) in self.runs for seed in range(self.seeds)):
                continue
            row = {name: shown(value) for name, value in point.items()}
            for name, values in flatten(self.results(i)).items():
                if isinstance(values, np.ndarray) and values.ndim == 1:
                    mean, low, high = map(float, interval(values))
                    row[name] = {"mean": mean, "low": low, "high": high, "seeds": values.tolist()}
            rows.append(row)
        return rows

    def __repr__(self):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text  # names as they are: [m] is no markup

        rows = self.rows()
        table = Table()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        for name in columns:
            table.add_column(Text(name), justify="right")
        for row in rows:
            table.add_row(*(Text(_cell(row[name]) if name in row else "") for name in columns))
        console = Console(width=120, force_terminal=False, force_jupyter=False)
        with console.capture() as capture:
            console.print(table)
        missing = len(self.points) * self.seeds - len(self.runs)
        text = f"{capture.get()}mean ± 95 % interval over {self.seeds} seeds\n"
        return text + (f"{missing} runs are not finished\n" if missing else "")


class _Group:
    """The runs that one compilation serves."""

    def __init__(self, experiment, inputs, runs, chunk, form, store):
        self.experiment, self.inputs, self.runs, self.store = experiment, inputs, runs, store
        self.devices = jax.local_devices()
        d = len(self.devices)
        self.chunk = min(-(-(chunk or max(4 * d, runs // 8)) // d) * d, -(-runs // d) * d)
        self.compiled: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.note = ""
        on_cpu = self.devices[0].platform == "cpu"
        if form != "auto":
            self.form, self.measuring = form, []
        else:
            self.form = "map" if on_cpu else "vmap"
            measured = on_cpu and runs >= WORTH_MEASURING and runs >= 4 * self.chunk
            self.measuring = list(FORMS) if measured else []

    def finished(self) -> Iterator[tuple[int, list[Tree]]]:
        """(start, results of the runs from there on), chunk by chunk: from disk where they are, else computed."""
        start = 0
        while start < self.runs:
            tree = self.store.load(start, self._of_one) if self.store else None
            values = self._run(start) if tree is None else _rows(tree)
            yield start, values
            start += len(values)

    def _of_one(self) -> Tree:
        """What one run returns, as shapes."""
        return jax.eval_shape(partial(_one, self.experiment), jax.tree.map(itemgetter(0), self.inputs))

    def _run(self, start: int) -> list[Tree]:
        form = self.measuring.pop(0) if self.measuring else self.form
        program, inputs = self._program(form, start)
        n = min(self.chunk, self.runs - start)
        clock = time.perf_counter()
        tree = jax.tree.map(lambda leaf: np.asarray(leaf)[:n], jax.block_until_ready(program(*inputs)))
        self.seconds[form] = time.perf_counter() - clock
        if len(self.seconds) == len(FORMS) and not self.measuring:
            self.form = min(self.seconds, key=self.seconds.get)
        self.note = f"{form} on {len(self.devices)} device{'s' * (len(self.devices) > 1)}"
        if self.store:
            self.store.save(start, tree, n)
        return _rows(tree)

    def _program(self, form: str, start: int) -> tuple[Callable, Any]:
        while True:
            inputs = self._inputs(start)
            if form not in self.compiled:
                self.compiled[form] = _compile(self.experiment, form, self.devices, inputs)
            needed, limit = _memory(self.compiled[form], self.devices)
            if needed <= limit or self.chunk == len(self.devices):
                return self.compiled[form], inputs
            self.chunk = max(len(self.devices), self.chunk // (2 * len(self.devices)) * len(self.devices))
            self.compiled.clear()

    def _inputs(self, start: int) -> Any:
        index = np.minimum(start + np.arange(self.chunk), self.runs - 1)  # the last chunk repeats its last run
        auto = (jax.sharding.AxisType.Auto,)
        mesh = jax.make_mesh((len(self.devices),), ("runs",), devices=self.devices, axis_types=auto)
        chunk = jax.tree.map(lambda leaf: leaf[index], self.inputs)
        return jax.device_put(chunk, NamedSharding(mesh, PartitionSpec("runs")))


def _compile(experiment: Callable, form: str, devices: list, inputs: Any) -> Callable:
    one = partial(_one, experiment)

    def many(*inputs):
        return jax.vmap(one)(inputs) if form == "vmap" else jax.lax.map(one, inputs)

    runs = PartitionSpec("runs")
    mesh = inputs[0].sharding.mesh
    sharded = jax.shard_map(many, mesh=mesh, in_specs=runs, out_specs=runs, check_vma=False)
    return jax.jit(sharded if len(devices) > 1 else many).lower(*inputs).compile()


def _one(experiment: Callable, key_and_hyper: tuple) -> dict:
    key, hyper = key_and_hyper
    results = experiment(key, **hyper)
    arrays = isinstance(results, dict) and all(hasattr(leaf, "dtype") for leaf in flatten(results).values())
    if not arrays or not results:
        raise ValueError(f"an experiment returns a dict of arrays, got {type(results).__name__}: {results!r:.200}")
    if both := results.keys() & {**hyper, **experiment.keywords}.keys():
        raise ValueError(f"{', '.join(sorted(both))}: a result needs a name that no hyper-parameter has")
    return results


def _memory(compiled: Any, devices: list) -> tuple[int, float]:
    """Bytes that one device needs for a chunk, and may use."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0, math.inf
    needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes + analysis.argument_size_in_bytes
    stats = devices[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return needed, 0.9 * stats["bytes_limit"]
    return needed, 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(devices)


def _groups(points: list[dict], constant: tuple[str, ...]) -> Iterator[tuple[dict, list[int]]]:
    """(static hyper-parameters, which all are but floats, indices of the points that share them)"""
    groups: dict[tuple, tuple[dict, list[int]]] = {}
    for i, point in enumerate(points):
        static = {name: value for name, value in point.items() if name in constant or not isinstance(value, float)}
        same = tuple((name, type(value), _identity(value)) for name, value in static.items())
        groups.setdefault(same, (static, []))[1].append(i)
    yield from groups.values()


def _identity(value: Any) -> Any:
    """What tells two values apart: themselves, or for what cannot be hashed (arrays) where they lie."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _axis(name: str, values: Any) -> list:
    if hasattr(values, "ndim"):
        if values.ndim > 1:
            raise ValueError(f"{name} has {values.ndim} dimensions: an axis of the grid is a list or a 1-D array")
        values = np.asarray(values).tolist()
    values = list(values) if isinstance(values, (list, range)) else [values]
    if not values:
        raise ValueError(f"{name} is an empty list: give at least one value")
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _rows(tree: Tree) -> list[Tree]:
    n = len(jax.tree.leaves(tree)[0])
    return [jax.tree.map(lambda leaf: leaf[i], tree) for i in range(n)]  # noqa: B023


def _cell(value: Any) -> str:
    if not isinstance(value, dict) or "high" not in value:
        return f"{value:g}" if isinstance(value, float) else str(value)
    mean, half = value["mean"], (value["high"] - value["low"]) / 2
    size = max(abs(mean), 0 if math.isnan(half) else half)
    ordinary = size == 0 or 1e-3 <= size < 1e6
    shown_mean = f"{mean:.4f}" if ordinary else f"{mean:.4g}"
    shown_half = f"{half:.4f}" if ordinary and (half == 0 or half >= 5e-5) else f"{half:.2g}"
    return shown_mean if math.isnan(half) else f"{shown_mean} ± {shown_half}"
