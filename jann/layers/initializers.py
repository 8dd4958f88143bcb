"""How parameters start."""

import functools
import math

import jax

lecun_normal = jax.nn.initializers.lecun_normal()
he_normal = jax.nn.initializers.he_normal()
small_normal = jax.nn.initializers.normal(0.02)
standard_normal = jax.nn.initializers.normal(1.0)
ones, zeros = jax.nn.initializers.ones, jax.nn.initializers.zeros


@functools.lru_cache(maxsize=64)  # so that equal specs have equal initialisers, here and below
def constant(value: float) -> jax.nn.initializers.Initializer:
    return jax.nn.initializers.constant(value)


@functools.lru_cache(maxsize=64)
def normal(deviation: float) -> jax.nn.initializers.Initializer:
    return jax.nn.initializers.normal(deviation)


@functools.lru_cache(maxsize=64)
def orthogonal(scale: float) -> jax.nn.initializers.Initializer:
    return jax.nn.initializers.orthogonal(scale)


@functools.lru_cache(maxsize=64)
def width_normal(width: int, depth: int = 0) -> jax.nn.initializers.Initializer:
    """The normal start of a Transformer's kernels: 0.02 at a width of 768, as BERT and GPT-2 publish it, and in
    proportion to 1 / sqrt(width), so that blocks of any width pass on as much.

    At 0.02 a narrow block passes on so little of the other tokens that training stays for long at their frequencies.

    depth:  blocks whose kernel adds to the stream: the sum over their two halves keeps its size (GPT-2)
    """
    return jax.nn.initializers.normal(0.02 * math.sqrt(768 / width) / math.sqrt(2 * depth or 1))
