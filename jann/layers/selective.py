"""The recurrence of selective state spaces, whose steps hang on what is read."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jann.layers.dtypes import along, wide_dtype

again = partial(jax.checkpoint, prevent_cse=False)
CHUNK = 16  # of the time: the backward pass keeps the states between chunks


def selective_scan(
    x: jax.Array,
    step: jax.Array,
    decay: jax.Array,
    into: jax.Array,
    out: jax.Array,
    state: jax.Array | None = None,
    begins: jax.Array | None = None,
    at_once: bool | None = None,
) -> tuple[jax.Array, jax.Array]:
    """x[..., time, inner] -> (y[..., time, inner], the last state): Gu and Dao 2023, arXiv:2312.00752, algorithm 2

        state_t = exp(step_t decay) state_{t-1} + into_t step_t x_t,  y_t = out_t · state_t

    step:       [..., time, inner], not negative; where it is 0 the state stays
    decay:      [state, inner], negative
    into, out:  [..., time, state]
    state:      [..., state, inner] before the first x, by default 0
    begins:     [..., time], true where the state is 0 before it
    at_once:    each chunk of the time by `lax.associative_scan`; by default where there is an accelerator. On two CPU
                cores one place after another takes a third of the time.

    At least in float32. The backward pass keeps the states between chunks and makes the others again.
    """
    dtype, time = wide_dtype(x), x.shape[-2]
    state = jnp.zeros((*x.shape[:-2], *decay.shape)) if state is None else state
    begins = jnp.zeros(x.shape[:-1], bool) if begins is None else begins
    at_once = jax.default_backend() != "cpu" if at_once is None else at_once
    size = max(1, min(time, CHUNK))
    count = -(-time // size)

    def parts(value):
        """[..., time, features] -> [chunks, size, ..., features], filled with zeros, whose steps change nothing"""
        value = jnp.moveaxis(value.astype(dtype), -2, 0)
        value = jnp.pad(value, [(0, count * size - time)] + [(0, 0)] * (value.ndim - 1))
        return value.reshape(count, size, *value.shape[1:])

    def terms(x, step, into, begins):
        """-> what the state is multiplied by and what is added, [..., state, inner]"""
        factor = jnp.exp(step[..., None, :] * along(decay, step[..., None, :]))
        return factor * (1 - begins[..., None]), into[..., None] * (step * x)[..., None, :]

    def read(out, state):
        return (out[..., None] * state).sum(-2)

    @again
    @again
    def one(state, part):
        x, step, into, out, begins = part
        factor, added = terms(x, step, into, begins)
        state = factor * state + added
        return state, read(out, state)

    @again
    def chunk(state, part):
        if not at_once:
            return lax.scan(one, state, part)
        x, step, into, out, begins = part
        factor, added = lax.associative_scan(
            lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), terms(x, step, into, begins)
        )
        states = factor * state[None] + added
        return states[-1], read(out, states)

    pieces = [parts(value) for value in (x, step, into, out, begins[..., None])]
    last, y = lax.scan(chunk, state.astype(dtype), pieces)
    return jnp.moveaxis(y.reshape(count * size, *y.shape[2:])[:time], 0, -2), last
