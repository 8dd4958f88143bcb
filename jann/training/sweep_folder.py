"""The folder of a sweep: what tells it from others, and the chunks of it that are finished."""

from __future__ import annotations

import inspect
import json
import os
import re
import types
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef, default_registry

from jann.core import Model, function_name
from jann.trees import Tree

FIXED = (bool, int, float, str, tuple, types.FunctionType, partial, Model)  # what a function may be told apart by


class Store:
    """Finished chunks of one group on disk: `GROUP-START-STOP.npz`, leaves by number, their tree and their dtypes."""

    def __init__(self, folder: Path, number: int):
        self.folder, self.number = folder, number

    def load(self, start: int, like: Callable[[], Tree]) -> Tree | None:
        """The runs from `start` on, if they are there; `like()` has their tree, where it has nodes of the user's."""
        for file in self.folder.glob(f"{self.number:03d}-{start:06d}-*.npz"):
            try:
                with np.load(file) as arrays:
                    known = arrays["tree"].tobytes()
                    # NumPy forgets the names of dtypes that are not its own, such as bfloat16
                    stored = [arrays[str(i)].view(jnp.dtype(str(name))) for i, name in enumerate(arrays["dtypes"])]
                structure = PyTreeDef.deserialize_using_proto(default_registry, known) if known else None
                tree = (structure or jax.tree.structure(like())).unflatten(stored)
            except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
                warnings.warn(f"{file} is damaged ({error}): its runs are done again", stacklevel=2)
                file.unlink()
                return None
            return tree
        return None

    def save(self, start: int, tree: Tree, n: int) -> None:
        partial = self.folder / f".{os.getpid()}.partial.npz"
        leaves, structure = jax.tree.flatten(tree)
        try:
            known = np.frombuffer(structure.serialize_using_proto(), np.uint8)
        except ValueError:  # of dicts, lists, tuples only
            known = np.zeros(0, np.uint8)
        arrays = {str(i): leaf for i, leaf in enumerate(leaves)}
        np.savez(partial, tree=known, dtypes=[leaf.dtype.name for leaf in leaves], **arrays)
        partial.replace(self.folder / f"{self.number:03d}-{start:06d}-{start + n:06d}.npz")


def identified(value: Any, depth: int = 8) -> Any:
    """What tells a value from others, as JSON and alike in every process: a function is its name and what it holds."""
    if depth == 0:
        return "..."
    inner = partial(identified, depth=depth - 1)
    if isinstance(value, partial):
        given = {**dict(enumerate(value.args)), **value.keywords}
        return {"function": inner(value.func), "given": inner(given)} if given else inner(value.func)
    value = inspect.unwrap(value) if callable(value) else value
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        held = {free: cell.cell_contents for free, cell in cells if cell != types.CellType()}
        # Lists, dicts and the like may change while it runs: counters, records.
        holds = {free: inner(it) for free, it in held.items() if isinstance(it, FIXED) and it is not value}
        name = ":".join(function_name(value))
        return {"function": name, "holds": holds} if holds else name
    if isinstance(value, (list, tuple)):
        return [inner(part) for part in value]
    if isinstance(value, dict):
        return {str(name): inner(part) for name, part in value.items()}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        array = np.asarray(value)
        return f"{array.dtype}{list(array.shape)} {zlib.crc32(array.tobytes()):08x}"
    return shown(value)


def shown(value: Any) -> Any:
    """A hyper-parameter as JSON shows it, without addresses, which change from process to process."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        if callable(value) and hasattr(value, "__module__") and not isinstance(value, Model):
            return ":".join(function_name(value))
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
