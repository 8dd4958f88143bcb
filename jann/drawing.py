"""How arrays are drawn: each from a key of its own, folded from its path, and on a CPU by few and cheap programs."""

import itertools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def fold(key: jax.Array | None, name: str) -> jax.Array | None:
    """A key for `name`, folded (not split), so that other names do not change it. No key gives no key."""
    return None if key is None else jax.random.fold_in(checked_key(key), _number(name))


def checked_key(key: Any) -> Any:
    """The key itself. Raises TypeError for a number, which other libraries take for a seed."""
    if isinstance(key, int | np.integer):
        raise TypeError(f"key is the number {key}: give a key, such as jax.random.key({key})")
    return key


def drawn(init: Callable, shape: tuple[int, ...], path: str, stacked: tuple[int, ...], key: jax.Array) -> jax.Array:
    """The parameter at that path, `init(key, shape, dtype)` in float32; where it is stacked, from a key for each block.

    stacked:  as in `Param`
    """
    depth = len(stacked)
    if depth:
        names = block_names(path, stacked, shape[:depth])
        numbers = np.array([_number(name) for name in names])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    else:
        keys = fold(key, path)
    if isinstance(keys, jax.core.Tracer):  # part of a program already
        return _drawn(init, shape, depth, keys)
    constant = next((number for number, fill in enumerate(CONSTANTS) if init is fill), None)
    if constant is not None and not keys.committed:
        return jax.device_put(np.full(shape, constant, np.float32))
    quick = jax.default_backend() == "cpu" and getattr(init, "__module__", None) == OF_JAX
    return (_drawn_quickly if quick else _drawn)(init, shape, depth, keys)


CONSTANTS = jax.nn.initializers.zeros, jax.nn.initializers.ones  # of 0 and of 1, which need no program
OF_JAX = jax.nn.initializers.normal().__module__


def _drawn(init: Callable, shape: tuple[int, ...], depth: int, keys: jax.Array) -> jax.Array:
    """One array from one key; where its first `depth` axes are of equal blocks, from a key for each block."""
    if not depth:
        return init(keys, shape, jnp.float32)
    return jax.vmap(lambda key: init(key, shape[depth:], jnp.float32))(keys).reshape(shape)


# XLA takes most of a second to optimise on a CPU what draws an array once: so one program an array, in place of several
# for its operations, and that with less effort. Numbers are the same as operation by operation, for which XLA must not
# make one factor of two: that is known of JAX's initialisers only.
_drawn_quickly = jax.jit(
    _drawn,
    static_argnums=(0, 1, 2),
    compiler_options={"xla_backend_optimization_level": 1, "xla_disable_hlo_passes": "algsimp"},
)


def block_names(path: str, stacked: tuple[int, ...], sizes: tuple[int, ...]) -> Iterator[str]:
    """The paths that the blocks of a stacked parameter would have as a list, so that both forms start the same."""
    for index in itertools.product(*map(range, sizes)):
        parts = path.split("/")
        for below, i in zip(stacked, index, strict=True):
            parts.insert(len(parts) - below, str(i))
        yield "/".join(parts)


def _number(name: str) -> np.uint32:
    return np.uint32(zlib.crc32(name.encode()))
