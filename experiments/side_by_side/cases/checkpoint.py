"""Saving a train state of about 400 MB until it is safe on the disk: an MLP's parameters and Adam's two moments.

In the folder for temporary files (TMPDIR says which), which should be on the disk that is to be measured. `writing` is
the limit: as many bytes in one go. PyTorch and it wait for the disk (fsync) as jann's checkpoints do, and keep the last
file until the new one is whole, which then takes its place. `torch_in_place` writes over the last one: a run that is
killed in the midst of it is lost.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, Case

SIZES = (2048, 4096, 4096, 2048)


def numbers() -> int:
    """How many the train state has: three for each parameter."""
    return 3 * sum(a * b + b for a, b in pairwise(SIZES))


def jann_model():
    import jann

    return jann.models.MLP(SIZES[0], SIZES[1:-1], SIZES[-1])


def jann_state():
    """A train state whose arrays are all drawn: zeros would be written faster than what is trained."""
    import jax
    import jax.numpy as jnp
    import optax

    import jann

    random, optimizer = np.random.default_rng(0), optax.adam(1e-4)

    def draw(leaf):
        floats = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(random.standard_normal(leaf.shape, np.float32)) if floats else jnp.zeros_like(leaf)

    key = jax.random.key(0)
    state = jax.eval_shape(lambda: jann.start(jann_model(), optimizer, key))
    return jax.tree.map(draw, state.replace(key=None)).replace(key=key)


def torch_state() -> dict:
    """The same numbers as a dict of tensors."""
    import torch

    random, state = np.random.default_rng(0), {}
    for part in ("params", "mean", "square"):
        for i, (a, b) in enumerate(pairwise(SIZES)):
            for name, shape in {"weight": (a, b), "bias": (b,)}.items():
                state[f"{part}.{i}.{name}"] = torch.from_numpy(random.standard_normal(shape, np.float32))
    return state


def scratch() -> Path:
    """A folder for as long as the process lives."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def total(arrays) -> list[float]:
    """The sum of all numbers, of the size of 1, to be compared."""
    floats = [array for array in map(np.asarray, arrays) if array.dtype == np.float32]
    return [sum(array.sum(dtype=np.float64) for array in floats) / np.sqrt(sum(array.size for array in floats))]


def leaves(state) -> list:
    """The arrays of jann's train state, without its key."""
    import jax

    return jax.tree.leaves(state.replace(key=None))


def jann(start: Arrays) -> Advance:
    import jann

    checkpoints, state, step = jann.Checkpoints(scratch(), keep=1), jann_state(), 0
    saved = total(leaves(state))

    def advance(portions):
        nonlocal step
        for _ in range(portions):
            step += 1
            checkpoints.save(step, state)
            checkpoints.wait()
        return saved

    return advance


def torch(start: Arrays) -> Advance:
    import torch

    path, state = scratch() / "state.pt", torch_state()
    saved = total(state.values())

    def advance(portions):
        for _ in range(portions):
            replaced(path, lambda file: torch.save(state, file))
        return saved

    return advance


def torch_in_place(start: Arrays) -> Advance:
    import torch

    path, state = scratch() / "state.pt", torch_state()
    saved = total(state.values())

    def advance(portions):
        for _ in range(portions):
            with path.open("wb") as file:
                torch.save(state, file)
                synced(file)
        return saved

    return advance


def writing(start: Arrays) -> Advance:
    """The limit: so many bytes to one file."""
    path, array = scratch() / "bytes", np.random.default_rng(0).standard_normal(numbers(), np.float32)

    def advance(portions):
        for _ in range(portions):
            replaced(path, lambda file: file.write(array.data))
        return []

    return advance


def replaced(path: Path, write: Callable) -> None:
    """Has a new file written, which then takes the place of the one at `path`."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        write(file)
        synced(file)
    partial.replace(path)


def synced(file) -> None:
    """Returns when what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


MEGABYTES = round(numbers() * 4 / 1e6)
CASE = Case(
    name="checkpoint",
    work=f"saving a train state of {MEGABYTES:,} MB, until it is on the disk",
    unit="MB/s",
    portion=MEGABYTES,
    start=dict,
    rivals={"jann": jann, "torch": torch, "torch_in_place": torch_in_place, "writing": writing},
    reference="jann",
)
