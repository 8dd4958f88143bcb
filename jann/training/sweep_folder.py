"""The finished chunks of a sweep, in its folder."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef, default_registry

from jann.trees import Tree


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
