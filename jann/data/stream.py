"""Batches of what does not fit in memory, read ahead by threads: Grain, with the step as the only state."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


class Source(Protocol):
    """What a stream reads from, by several threads: examples by number, each a tree of NumPy arrays."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Stream:
    """Batches of `size` examples of `source`, shuffled anew each epoch, on the host.

    As with `batches`, the batch of step n depends on the seed and n alone, so the step is all that a
    checkpoint needs, and an epoch leaves out the examples that do not fill a batch. `transform(example, rng)
    -> example` is applied to each example in the reading threads, with a NumPy generator that depends on the
    seed and the example's position.

    `threads` batches are read at a time, as many again wait; 0 reads in the caller's thread. With `world`
    processes, process `rank` reads every `world`-th example of each batch, so batch n holds the same examples
    for every `world`.

    `sharding` is that of a batch on devices, NamedSharding(mesh, PartitionSpec("data")): `read`, which `chunks`
    and `fit` call, then gives arrays of the whole batch, to which each process adds its part.

    Raises ImportError without Grain, ValueError where the source cannot fill one batch or `world` does not
    divide it.
    """

    def __init__(
        self,
        source: Source,
        size: int,
        seed: int,
        transform: Callable[[Any, np.random.Generator], Any] | None = None,
        threads: int = 4,
        rank: int = 0,
        world: int = 1,
        sharding: NamedSharding | None = None,
    ):
        try:
            import grain
        except ImportError as error:
            raise ImportError(
                "Stream reads with Grain, which is not installed: pip install 'jann[stream]'"
            ) from error
        examples = len(source)
        if not 1 <= size <= examples:
            raise ValueError(
                f"batch size {size}: choose 1 to {examples}, the number of examples of the source"
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes: ranks are 0 to {world - 1}")
        if size % world:
            raise ValueError(
                f"batch size {size} cannot be shared by {world} processes: choose a multiple of {world}"
            )
        self.examples = examples
        self.size, self.world, self.sharding = size, world, sharding
        self.steps_per_epoch = examples // size
        self.options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)

        shuffled = grain.MapDataset.source(source).seed(seed).shuffle()
        if transform is not None:
            shuffled = shuffled.random_map(transform)
        # Sliced after the transform, so that an example's random numbers do not depend on `world`.
        mine = shuffled.slice(slice(rank, self.steps_per_epoch * size, world))
        self.dataset = mine.batch(size // world, drop_remainder=True).repeat()
        self.iterator, self.next_step = None, None

    def __call__(self, step: int) -> Any:
        """The batch of step `step`: a tree of NumPy arrays[size / world, ...]."""
        step = int(step)
        if step != self.next_step:
            if self.iterator is not None:
                self.iterator.close()
            # A slice and not the iterator's set_state, whose format Grain reserves the right to change.
            self.iterator = iter(self.dataset.slice(slice(step, None)).to_iter_dataset(self.options))
        self.next_step = None  # stays so where an example cannot be read: the next call then starts afresh
        batch = next(self.iterator)
        self.next_step = step + 1
        return batch

    def read(self, step: int, n: int) -> Any:
        """The batches of the steps step .. step + n − 1: a tree of NumPy arrays[n, size / world, ...].

        With `sharding`, of JAX arrays[n, size, ...].
        """
        step = int(step)
        found = jax.tree.map(lambda *leaves: np.stack(leaves), *[self(step + i) for i in range(n)])
        if self.sharding is None:
            return found
        stacked = NamedSharding(self.sharding.mesh, PartitionSpec(None, *self.sharding.spec))

        def place(part):
            return jax.make_array_from_process_local_data(stacked, part, (n, self.size, *part.shape[2:]))

        return jax.tree.map(place, found)
