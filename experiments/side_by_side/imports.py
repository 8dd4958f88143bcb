"""Seconds that `import jann` adds to `import jax`."""

import time

from experiments.side_by_side.harness import Case, serve

CASE = Case(
    name="import",
    module="experiments.side_by_side.imports",
    rivals=("jax", "jann_after_jax", "flax_nnx_after_jax", "equinox_after_jax", "torch"),
    unit="s",
    better="lower",
    bars={},
    note="jax: `import jax` in a fresh process; the others: what theirs adds to it (torch: by itself). "
    "Hoped for: 0.3 s.",
)


def seconds(*modules):
    """The time that the last import takes."""
    for module in modules[:-1]:
        __import__(module)
    clock = time.perf_counter()
    __import__(modules[-1])
    return {"value": time.perf_counter() - clock}


if __name__ == "__main__":
    serve({
        "jax": lambda: seconds("jax"), "jann_after_jax": lambda: seconds("jax", "jann"),
        "flax_nnx_after_jax": lambda: seconds("jax", "flax.nnx"),
        "equinox_after_jax": lambda: seconds("jax", "equinox"), "torch": lambda: seconds("torch"),
    })  # fmt: skip
