"""Parameters for tests of models."""

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def drawn():
    """model -> parameters away from where they start, drawn by NumPy: compiling every `init` would take most time."""

    def draw(path, leaf):
        random = np.random.default_rng(len(leaf.shape) + leaf.size)
        if path[-1].key in ("scale", "variance"):
            return np.float32(random.uniform(0.5, 1.5, leaf.shape))
        return np.float32(random.normal(size=leaf.shape) / np.sqrt(max(1, np.prod(leaf.shape[:-1]))))

    return lambda model: jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0)))
