"""Are the gradients right? Compared with finite differences."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import Tree, path_name

STEP = 1e-5  # in float64, truncation (step² times the third derivative) and rounding (1e-16 / step) are then both tiny
DIRECTIONS = 3


class GradientError(AssertionError):
    """A gradient disagrees with finite differences."""


def check_gradients(
    function: Callable, params: Tree, *args: Any, tolerance: float = 1e-4, key: jax.Array | None = None
) -> dict[str, float]:
    """function(params, *args) -> scalar; for each leaf of `params` the error of `jax.grad`, relative: {path: error}.

    In float64, whatever the arrays given, along a few random directions of each leaf: with g the gradient and v a
    direction, g·v is compared with (f(p + εv) - f(p - εv)) / 2ε. Errors below 1e-6 of the function's value count as
    relative to that. Kinks (relu, max) within ε of the point show up as errors.

    key:  draws the directions

    Raises GradientError naming the worst leaf if it is above `tolerance`, ValueError if the function is no scalar or a
    gradient or difference is not finite.
    """
    with jax.enable_x64(True):
        key = jax.random.key(0) if key is None else key
        params, args = jax.tree.map(_double, (params, args))
        value = jax.jit(function)
        if jax.eval_shape(value, params, *args).shape != ():
            raise ValueError("check_gradients needs a function that returns a scalar: sum or average its output")
        floor = 1e-6 * max(1.0, abs(float(value(params, *args))))
        grads = jax.tree.leaves(jax.jit(jax.grad(function, allow_int=True))(params, *args))
        leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
        errors = {}
        for i, (path, leaf) in enumerate(leaves):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                continue

            def moved(by, i=i):
                return value(treedef.unflatten([p + by if i == j else p for j, (_, p) in enumerate(leaves)]), *args)

            worst = 0.0
            for direction in jax.random.normal(jax.random.fold_in(key, i), (DIRECTIONS, *leaf.shape), jnp.float64):
                direction = direction / jnp.linalg.norm(direction)
                given = float(jnp.vdot(grads[i], direction))
                measured = float(moved(STEP * direction) - moved(-STEP * direction)) / (2 * STEP)
                if not np.isfinite([given, measured]).all():
                    raise ValueError(f"{path_name(path)}: gradient {given}, finite difference {measured} along v")
                worst = max(worst, abs(given - measured) / max(abs(given), abs(measured), floor))
            errors[path_name(path)] = worst
    bad = {path: error for path, error in errors.items() if error > tolerance}
    if bad:
        path = max(bad, key=bad.get)
        raise GradientError(
            f"the gradient of {path} is off by {bad[path]:.1e} (tolerance {tolerance:.0e}); "
            f"{len(bad)} of {len(errors)} leaves are above it: {', '.join(bad)}"
        )
    return errors


def _double(leaf):
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
