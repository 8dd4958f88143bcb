"""What a run leaves for people to read: metrics as JSON lines, a configuration, progress on the screen."""

import contextlib
import importlib.util
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jann.saving import MODEL, up_to_date

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None


LOCK = ".lock"


class RunFolderError(OSError):
    """A run folder cannot be used: not writable, in use, or it holds a run of another configuration."""


def open_run(folder: str | Path, config: dict[str, Any], name: str = "config.json") -> Path:
    """Makes a run folder with its configuration in the file `name`, or opens the one of the same configuration.

    A folder that holds nothing but configurations with the same settings, as of a run that was refused, is made anew.

    The models in it (of `jann.to_json`) are the same if they only lack fields that their classes gained since.

    Raises RunFolderError if it cannot be written, or naming the settings in which the run that it holds differs.
    """
    folder = Path(folder)
    config = json.loads(json.dumps(config))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / name
        found = json.loads(file.read_text()) if file.exists() else None
        if found is None:
            write_json(file, config)
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{file} is not whole JSON ({error}): delete that file or choose another") from None
    except OSError as error:
        raise RunFolderError(f"cannot write the run folder {folder}: {error}; choose another with --out") from None
    found = up_to_date(found)
    if found is not None and found != config:
        begun = any(part.is_file() and part.name not in ("config.json", MODEL, LOCK) for part in folder.rglob("*"))
        if not begun and found.keys() == config.keys():
            write_json(file, config)
            return folder
        names = sorted(k for k in {**found, **config} if found.get(k) != config.get(k))
        differ = ", ".join(f"{name} was {found.get(name)!r}, is {config.get(name)!r}" for name in names)
        raise RunFolderError(f"{folder} holds a run of another configuration ({differ}): choose another, or delete it")
    return folder


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing in a run folder; its lock ends with the process, however that ends.

    Of several that train together, the first holds it. Without locks (Windows, some network drives) it does nothing.

    Raises RunFolderError where another process writes.
    """
    if fcntl is None or jax.process_index() > 0:
        yield
        return
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's not inherited by processes it starts
        except (BlockingIOError, PermissionError):
            raise RunFolderError(
                f"another process is writing in {folder}: wait for it or choose another folder"
            ) from None
        except OSError:  # of a file system without locks
            pass
        yield


def write_json(file: Path, value: Any) -> None:
    """Writes JSON whole or not at all; what is not finite (the interval of one run) becomes null."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")
    partial.replace(file)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Log:
    """`metrics.jsonl` of a run: one row a line, `{"step": ..., name: number, ...}`; TensorBoard events on request.

    Of several processes that train together all hold the rows, and the first writes them.
    """

    def __init__(self, folder: Path | None, tensorboard: bool = False):
        self.file = None if folder is None else folder / "metrics.jsonl"
        self.rows: list[dict] = []
        self._events, self._writes = None, jax.process_index() == 0
        if tensorboard:
            if folder is None:
                raise ValueError("tensorboard=True needs a folder for the event files")
            try:
                from tensorboardX import SummaryWriter
            except ImportError:
                raise ImportError("TensorBoard event files need: pip install 'jann[tensorboard]'") from None
            if self._writes:
                self._events = SummaryWriter(str(folder / "tensorboard"))

    def resume(self, step: int) -> None:
        """Keeps the rows up to `step`; what an interrupted run wrote later, or half, or twice, is dropped."""
        if self.file is None or not self.file.exists():
            return
        last = -math.inf
        for line in self.file.read_text(errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if last < row["step"] <= step:
                self.rows.append(row)
                last = row["step"]
        if self._writes:
            partial = self.file.with_suffix(".partial")
            partial.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            partial.replace(self.file)

    def write(self, row: dict[str, Any]) -> None:
        row = {name: np.asarray(value).tolist() for name, value in row.items()}
        self.rows.append(row)
        if self.file is not None and self._writes:
            with self.file.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if self._events is not None:
            for name, value in row.items():
                if name != "step":
                    self._events.add_scalar(name, float(np.mean(value)), row["step"])
            self._events.flush()

    def history(self) -> dict[str, np.ndarray]:
        """{name: array[rows, ...]}; a row that lacks a name has NaN there."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        return {name: _column([row.get(name) for row in self.rows]) for name in names}

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def _column(values: list) -> np.ndarray:
    shape = np.shape(next(value for value in values if value is not None))
    return np.array([np.full(shape, np.nan) if value is None else value for value in values])


class Progress:
    """A bar in terminals and notebooks, now and then a line elsewhere (log files). A context manager."""

    def __init__(self, title: str, total: int, show: bool = True, start: int = 0):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.title, self.total, self.done = title, total, start
        console = Console()
        self._bar = None
        widgets = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        self._lines = show and not widgets and (console.is_jupyter or not console.is_terminal)
        self._last = -float("inf")
        if show and not self._lines:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            self._bar = Bar(*columns, console=console)
            self._task = self._bar.add_task(title, total=total, completed=start, note="")

    def __enter__(self):
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """`done` of the total are finished; `note` says how it goes."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif self._lines and (time.monotonic() - self._last > 5 or done >= self.total):
            self._last = time.monotonic()
            print(f"{self.title}: {done}/{self.total}  {note}", flush=True)
