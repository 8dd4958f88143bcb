"""One long sequence as a batch of streams, for networks that carry a state from window to window."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jann.drawing import checked_key


def contiguous(tokens: Any, size: int, window: int, key: jax.Array | None = None) -> "Contiguous":
    """tokens[n, ...] -> batches for `train`: a text cut into `size` streams that are read `window` tokens a step.

    A batch is {"token": [size, window, ...], "label": the tokens that follow each, "start": whether all begin anew}.
    Stream i goes on where stream i of the step before ended; after the last whole window all begin again. What is left
    over by cutting is not read.

    key:  with one, the text is a circle that each epoch cuts elsewhere, so that windows and what is left over differ
          between epochs. As with `batches`, the batch of step n depends on the key and n alone.

    Raises ValueError when the text is too short for a single window.
    """
    checked_key(key)
    tokens = jnp.asarray(tokens)
    if size < 1 or window < 1:
        raise ValueError(f"size={size}, window={window}: both must be at least 1")
    if tokens.shape[0] // size < window + 1:
        raise ValueError(f"{tokens.shape[0]} tokens are too few for {size} streams of {window + 1}")
    return Contiguous(tokens, key, size, window)


@partial(jax.tree_util.register_dataclass, data_fields=["tokens", "key"], meta_fields=["size", "window"])
@dataclasses.dataclass(frozen=True, eq=False)
class Contiguous:
    """What `contiguous` makes: a pytree, so its arrays are arguments of a compiled program, not constants."""

    tokens: jax.Array = dataclasses.field(repr=False)
    key: jax.Array | None
    size: int
    window: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole windows of a stream."""
        return (self.tokens.shape[0] // self.size - 1) // self.window

    def plan(self, step: int | jax.Array, n: int) -> jax.Array:
        """The numbers of the steps step .. step + n - 1, [n]."""
        return jnp.asarray(step, jnp.int32) + jnp.arange(n, dtype=jnp.int32)

    def take(self, step: jax.Array) -> dict[str, jax.Array]:
        """The batch of one planned step."""
        n = self.tokens.shape[0]
        epoch, which = step // self.steps_per_epoch, step % self.steps_per_epoch
        starts = jnp.arange(self.size) * (n // self.size) + which * self.window
        if self.key is not None:
            starts = starts + jax.random.randint(jax.random.fold_in(self.key, epoch), (), 0, n)
        part = self.tokens[(starts[:, None] + jnp.arange(self.window + 1)[None, :]) % n]
        return {"token": part[:, :-1], "label": part[:, 1:], "start": which == 0}
