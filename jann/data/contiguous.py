"""One long sequence as a batch of streams, for networks that carry a state from window to window."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def contiguous(tokens: Any, size: int, window: int) -> "Contiguous":
    """tokens[n, ...] -> batches for `train`: a text cut into `size` streams that are read `window` tokens a step.

    A batch is {"token": [size, window, ...], "label": the tokens that follow each, "start": whether all begin anew}.
    Stream i goes on where stream i of the step before ended; after the last whole window all begin again. What is left
    over by cutting is not read.

    Raises ValueError when the text is too short for a single window.
    """
    tokens = jnp.asarray(tokens)
    if size < 1 or window < 1:
        raise ValueError(f"size={size}, window={window}: both must be at least 1")
    length = tokens.shape[0] // size
    if length < window + 1:
        raise ValueError(f"{tokens.shape[0]} tokens are too few for {size} streams of {window + 1}")
    return Contiguous(tokens[: size * length].reshape(size, length, *tokens.shape[1:]), window)


@partial(jax.tree_util.register_dataclass, data_fields=["streams"], meta_fields=["window"])
@dataclasses.dataclass(frozen=True, eq=False)
class Contiguous:
    """What `contiguous` makes: streams[size, length, ...], and how many tokens of each a step reads."""

    streams: jax.Array = dataclasses.field(repr=False)
    window: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole windows of a stream."""
        return (self.streams.shape[1] - 1) // self.window

    def plan(self, step: int | jax.Array, n: int) -> jax.Array:
        """Which window each of the steps step .. step + n - 1 reads, [n]."""
        return (step + jnp.arange(n)) % self.steps_per_epoch

    def take(self, planned: jax.Array) -> dict[str, jax.Array]:
        """The batch of one planned step."""
        part = jax.lax.dynamic_slice_in_dim(self.streams, planned * self.window, self.window + 1, axis=1)
        return {"token": part[:, :-1], "label": part[:, 1:], "start": planned == 0}
