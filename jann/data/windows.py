"""Windows from anywhere in one long sequence, for networks that see only what is inside a window."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jann.drawing import checked_key


def windows(tokens: Any, size: int, window: int, key: jax.Array) -> "Windows":
    """tokens[n, ...] -> batches for `train`: each of `size` windows, which begin anywhere with equal chance.

    A batch is {"token": [size, window, ...], "label": the tokens that follow each}. As with `batches`, the batch of
    step n depends on the key and n alone. For networks that carry a state, see `contiguous`.

    Raises ValueError when the text is too short for a single window.
    """
    checked_key(key)
    tokens = jnp.asarray(tokens)
    if size < 1 or window < 1:
        raise ValueError(f"size={size}, window={window}: both must be at least 1")
    if tokens.shape[0] < window + 1:
        raise ValueError(f"{tokens.shape[0]} tokens are too few for a window of {window} and the token after it")
    return Windows(tokens, key, size, window)


@partial(jax.tree_util.register_dataclass, data_fields=["tokens", "key"], meta_fields=["size", "window"])
@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """What `windows` makes: a pytree, so its arrays are arguments of a compiled program, not constants."""

    tokens: jax.Array = dataclasses.field(repr=False)
    key: jax.Array
    size: int
    window: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see as many tokens as the text has."""
        return max(1, self.tokens.shape[0] // (self.size * self.window))

    def plan(self, step: int | jax.Array, n: int) -> jax.Array:
        """Where the windows of the steps step .. step + n - 1 begin, [n, size]."""
        steps = jnp.asarray(step, jnp.int32) + jnp.arange(n, dtype=jnp.int32)
        last = self.tokens.shape[0] - self.window
        return jax.vmap(lambda i: jax.random.randint(jax.random.fold_in(self.key, i), (self.size,), 0, last))(steps)

    def take(self, starts: jax.Array) -> dict[str, jax.Array]:
        """The batch of one planned step."""
        part = self.tokens[starts[:, None] + jnp.arange(self.window + 1)[None, :]]
        return {"token": part[:, :-1], "label": part[:, 1:]}


def whole_windows(tokens: Any, window: int) -> dict[str, jax.Array]:
    """tokens[n] -> {"token", "label", "weight"}[rows, window], all n − 1 that follow a token once, one after another.

    For `evaluate`: the last window is filled up, with weight 0.
    """
    tokens = jnp.asarray(tokens)
    count = tokens.shape[0] - 1
    if count < 1 or window < 1:
        raise ValueError(f"{count + 1} tokens, window={window}: there must be two tokens, and a window of at least one")
    rows = -(-count // window)

    def cut(values):
        return jnp.pad(values, (0, rows * window - count)).reshape(rows, window)

    return {"token": cut(tokens[:-1]), "label": cut(tokens[1:]), "weight": cut(jnp.ones(count))}
