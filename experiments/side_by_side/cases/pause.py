"""How much longer some training steps take when a checkpoint is saved before them: the state of the case `checkpoint`.

What is written in the background slows the steps, and counts; the wait for the rest of it, after them, does not.
`copying` is the limit: one copy of the state in memory, which must be taken before it may change.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from experiments.side_by_side.cases import checkpoint
from experiments.side_by_side.harness import Advance, Arrays, Case, Measured

STEPS, BATCH = 10, 32


def paused(train: Callable[[], None], save: Callable[[], None], wait: Callable[[], None]) -> Advance:
    """`train()` takes the steps, `save()` returns when they may be taken, `wait()` when all is on the disk."""

    def advance(portions):
        seconds = 0.0
        for _ in range(portions):
            begin = time.perf_counter()
            train()
            middle = time.perf_counter()
            save()
            train()
            seconds += time.perf_counter() - middle - (middle - begin)
            wait()
        return Measured(np.zeros(1), seconds=seconds)  # there are no losses to compare

    return advance


def batch() -> Arrays:
    random = np.random.default_rng(1)
    sizes = {"image": checkpoint.SIZES[0], "target": checkpoint.SIZES[-1]}
    return {name: random.standard_normal((BATCH, size), np.float32) for name, size in sizes.items()}


def jann(start: Arrays) -> Advance:
    import jax
    import jax.numpy as jnp
    import optax

    import jann

    model, optimizer = checkpoint.jann_model(), optax.adam(1e-4)
    step = jax.jit(jann.make_step(jann.objective(model, jann.regression), optimizer), donate_argnums=0)
    state, arrays = jann.start(model, optimizer, jax.random.key(0)), jax.tree.map(jnp.asarray, batch())
    checkpoints, saved = jann.Checkpoints(checkpoint.scratch(), keep=1), 0

    def train():
        nonlocal state
        for _ in range(STEPS):
            state, _ = step(state, arrays)
        jax.block_until_ready(state)

    def save():
        nonlocal saved
        saved += 1
        checkpoints.save(saved, state)

    train()  # compiled, and no moment is zero any more
    return paused(train, save, checkpoints.wait)


def torch(start: Arrays) -> Advance:
    """PyTorch, as its users save: in the loop."""
    import torch
    from torch import nn

    layers = [layer for a, b in pairwise(checkpoint.SIZES) for layer in (nn.Linear(a, b), nn.ReLU())]
    network = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    arrays = {name: torch.from_numpy(array) for name, array in batch().items()}
    file = checkpoint.scratch() / "state.pt"

    def train():
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.mse_loss(network(arrays["image"]), arrays["target"]).backward()
            optimizer.step()

    def save():
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, file)

    train()
    return paused(train, save, lambda: None)


def copying(start: Arrays) -> Advance:
    """The limit: the state copied once."""
    array = np.random.default_rng(0).standard_normal(checkpoint.numbers(), np.float32)

    def advance(portions):
        for _ in range(portions):
            array.copy()
        return []

    return advance


CASE = Case(
    name="pause",
    work=f"what saving a train state of {checkpoint.MEGABYTES:,} MB adds to the time of {STEPS} training steps",
    unit="s",
    portion=1,
    start=dict,
    rivals={"jann": jann, "torch": torch, "copying": copying},
    reference="jann",
)
