"""What the machine allows: work that a case cannot do without, and nothing else."""

from functools import partial

from experiments.side_by_side.harness import Advance

SQUARE = (512, 512, 512)


def products(multiplications: int, shape: tuple[int, int, int] = SQUARE, dtype: str = "float32") -> Advance:
    """So many multiply-and-adds a portion, in products [rows, inputs] x [inputs, outputs] of that shape and dtype."""
    import jax
    import jax.numpy as jnp

    rows, inputs, outputs = shape
    x, w = jnp.ones((rows, inputs), dtype), jnp.ones((inputs, outputs), dtype)
    product = jax.jit(partial(jnp.matmul, preferred_element_type=jnp.float32))

    def advance(portions):
        for _ in range(max(1, round(portions * multiplications / (rows * inputs * outputs)))):
            y = product(x, w)
        jax.block_until_ready(y)
        return []

    return advance
