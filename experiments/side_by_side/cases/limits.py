"""What the machine allows: work that a case cannot do without, and nothing else."""

from experiments.side_by_side.harness import Advance

SQUARE = (512, 512, 512)


def products(multiplications: int, shape: tuple[int, int, int] = SQUARE) -> Advance:
    """So many multiply-and-adds a portion, in float32 products [rows, inputs] x [inputs, outputs] of that shape."""
    import jax
    import jax.numpy as jnp

    rows, inputs, outputs = shape
    x, w = jnp.ones((rows, inputs)), jnp.ones((inputs, outputs))
    product = jax.jit(jnp.matmul)

    def advance(portions):
        for _ in range(max(1, round(portions * multiplications / (rows * inputs * outputs)))):
            y = product(x, w)
        jax.block_until_ready(y)
        return []

    return advance
