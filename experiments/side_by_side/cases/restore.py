"""Restoring the train state of the case `checkpoint`, its files in the page cache.

`reading` is the limit: as many bytes of one file.
"""

import numpy as np

from experiments.side_by_side.cases import checkpoint
from experiments.side_by_side.harness import Advance, Arrays, Case


def jann(start: Arrays) -> Advance:
    import jax

    import jann

    checkpoints, state = jann.Checkpoints(checkpoint.scratch()), checkpoint.jann_state()
    checkpoints.save(0, state)
    checkpoints.wait()
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    found: list[float] = []

    def advance(portions):
        for _ in range(portions):
            restored = jax.block_until_ready(checkpoints.restore(template))
            found.extend([] if found else checkpoint.total(checkpoint.leaves(restored)))
            del restored
        return found

    return advance


def torch(start: Arrays) -> Advance:
    import torch

    file = checkpoint.scratch() / "state.pt"
    torch.save(checkpoint.torch_state(), file)
    found: list[float] = []

    def advance(portions):
        for _ in range(portions):
            restored = torch.load(file)
            found.extend([] if found else checkpoint.total(restored.values()))
            del restored
        return found

    return advance


def reading(start: Arrays) -> Advance:
    """The limit: so many bytes of one file."""
    file = checkpoint.scratch() / "bytes"
    np.random.default_rng(0).standard_normal(checkpoint.numbers(), np.float32).tofile(file)

    def advance(portions):
        for _ in range(portions):
            file.read_bytes()
        return []

    return advance


CASE = Case(
    name="restore",
    work=f"restoring a train state of {checkpoint.MEGABYTES:,} MB, from the page cache",
    unit="MB/s",
    portion=checkpoint.MEGABYTES,
    start=dict,
    rivals={"jann": jann, "torch": torch, "reading": reading},
    reference="jann",
)
