"""Batches of arrays that fit in memory, each a pure function of a key and the step's number."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jann.data.shuffle import round_keys, shuffled
from jann.drawing import checked_key

TRANSFORM = 2**31  # folded into the key for what `transform` draws; no epoch has this number


def batches(
    arrays: Any, size: int, key: jax.Array, transform: Callable | None = None, shuffle: bool = True
) -> "Batches":
    """Batches of `size` rows of each array[examples, ...] of a tree, shuffled anew each epoch.

    The batch of step n depends on `key` and n alone, so 10 + 10 steps see the same batches as 20, and every
    key of a `vmap` has an order of its own. Each epoch visits each example at most once and leaves out the
    `examples % size` that do not fill a batch; which ones differs between epochs when shuffled.

    `transform(batch, key) -> batch` is applied to each batch, inside the compiled step: scaling,
    augmentation. Give it a function defined once: a lambda made afresh each time compiles afresh each time.

    Raises ValueError where the arrays are empty or of unequal length, or cannot fill one batch.
    """
    checked_key(key)
    arrays = jax.tree.map(jnp.asarray, arrays)
    size = operator.index(size)
    examples = shared_length(arrays)
    if size < 1:
        raise ValueError(f"batch size {size}: choose at least 1")
    if size > examples:
        raise ValueError(f"batch size {size} is larger than the data: choose at most its {examples} examples")
    return Batches(arrays, key, size, transform, shuffle)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays", "key"],
    meta_fields=["size", "transform", "shuffle"],
)
@dataclass(frozen=True, eq=False)
class Batches:
    """What `batches` makes: a pytree, so its arrays are arguments of a compiled program, not constants."""

    arrays: Any = field(repr=False)
    key: jax.Array
    size: int
    transform: Callable | None = None
    shuffle: bool = True

    @property
    def examples(self) -> int:
        """The number of examples."""
        return jax.tree.leaves(self.arrays)[0].shape[0]

    @property
    def steps_per_epoch(self) -> int:
        """The number of full batches in an epoch."""
        return self.examples // self.size

    def plan(self, step: int | jax.Array, n: int) -> dict[str, jax.Array]:
        """What the steps step .. step + n − 1 see, to scan over: {"rows": [n, size], "step": [n]}."""
        return planned_rows(self.key, step, n, self.examples, self.size, self.shuffle)

    def take(self, planned: dict[str, jax.Array]) -> Any:
        """The batch of one planned step: {"rows": [size], "step": []} -> tree of arrays[size, ...]."""
        rows = planned["rows"]

        # As rows of a matrix: XLA's CPU gather takes seven times as long for [examples, 28, 28, 1].
        def rows_of(array):
            flat = array.reshape(array.shape[0], math.prod(array.shape[1:]))
            return flat[rows].reshape(self.size, *array.shape[1:])

        batch = jax.tree.map(rows_of, self.arrays)
        if self.transform is None:
            return batch
        key = jax.random.fold_in(jax.random.fold_in(self.key, TRANSFORM), planned["step"])
        return self.transform(batch, key)

    def __call__(self, step: int | jax.Array) -> Any:
        """The batch of step `step`, as any plan gives it: tree of arrays[size, ...]. To train, plan many."""
        return single(self, step)


@jax.jit  # as training is, for the same transform done operation by operation rounds differently
def single(batches: Batches, step: jax.Array) -> Any:
    """The batch of step `step`, by a plan of one step."""
    return batches.take(jax.tree.map(lambda x: x[0], batches.plan(step, 1)))


# Compiled on its own, because an eager call would compile its loop anew each time.
@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def planned_rows(key: jax.Array, step: jax.Array, n: int, examples: int, size: int, shuffle: bool) -> dict:
    """Rows of steps step .. step + n − 1, a permutation an epoch: {"rows": [n, size], "step": [n]}."""
    steps_per_epoch = examples // size
    step = jnp.asarray(step, jnp.int32)
    steps = step + jnp.arange(n, dtype=jnp.int32)
    positions = (steps % steps_per_epoch)[:, None] * size + jnp.arange(size, dtype=jnp.int32)[None, :]
    if not shuffle:
        return {"rows": positions, "step": steps}
    first = step // steps_per_epoch
    epochs = first + jnp.arange((n + 2 * steps_per_epoch - 2) // steps_per_epoch)  # that n steps can touch
    rounds = jax.vmap(lambda epoch: round_keys(jax.random.fold_in(key, epoch), examples))(epochs)
    which = (steps // steps_per_epoch - first)[:, None]
    return {"rows": shuffled(rounds, which, positions, examples), "step": steps}


def shared_length(arrays: Any) -> int:
    """The length of the leading axis that all leaves share; ValueError naming the leaf that has another."""
    lengths = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "the array"
        if not hasattr(leaf, "shape"):
            raise TypeError(f"{name} is a {type(leaf).__name__}: give arrays of NumPy or JAX, not lists")
        if leaf.ndim == 0:
            raise ValueError(f"{name} is a single number: give it a leading axis of examples")
        lengths[name] = leaf.shape[0]
    if not lengths:
        raise ValueError('no arrays to batch: give a tree of them, such as {"image": ..., "label": ...}')
    (first, examples), *others = lengths.items()
    for name, length in others:
        if length != examples:
            mend = "give all arrays the same leading axis"
            raise ValueError(f"{name} has {length} examples and {first} has {examples}: {mend}")
    if examples == 0:
        raise ValueError(f"{first} has no examples: its leading axis is empty")
    return examples
