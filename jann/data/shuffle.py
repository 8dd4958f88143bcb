"""Where each example of an epoch goes, without putting all of them in order."""

import jax
import jax.numpy as jnp
from jax import lax


def round_keys(key: jax.Array, examples: int) -> jax.Array:
    """key -> uint32[rounds, 2]: what `shuffled` needs of a key. Rounds grow with the logarithm of the examples."""
    rounds = 16 + 4 * examples.bit_length()
    # As one axis, of which they are the same: XLA takes long to compile a last axis of two.
    return jax.random.bits(key, (2 * rounds,), jnp.uint32).reshape(rounds, 2)


def shuffled(rounds: jax.Array, which: jax.Array, positions: jax.Array, examples: int) -> jax.Array:
    """positions[...] in 0 .. examples − 1 -> their places in the permutation number `which`[...], int32[...].

    rounds:  uint32[permutations, rounds, 2], a `round_keys` for each permutation

    The swap-or-not shuffle (Hoang, Morris and Rogaway 2012, An enciphering scheme based on a card shuffle): in each
    round, x and its partner k − x (mod examples) change places or don't, by a bit that depends on the pair. A position
    costs the same however many there are, where a permutation of 55,000 sorts for 20 ms on a CPU.
    """
    examples = jnp.uint32(examples)

    def one(i, x):
        partner = (rounds[:, i, 0] % examples)[which] + examples - x
        partner = jnp.where(partner >= examples, partner - examples, partner)
        swap = mixed(jnp.maximum(x, partner) ^ rounds[:, i, 1][which]) >> 31
        return jnp.where(swap == 1, partner, x)

    return lax.fori_loop(0, rounds.shape[1], one, positions.astype(jnp.uint32)).astype(jnp.int32)


def mixed(x: jax.Array) -> jax.Array:
    """uint32 -> uint32 in which every bit depends on all of x's: the finaliser of MurmurHash3."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
