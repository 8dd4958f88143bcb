"""Are the gradients right? Compared with finite differences."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.trees import Tree, path_name

STEP = 1e-5  # in float64, truncation (step² times the third derivative) and rounding (1e-16 / step) are both tiny here
DIRECTIONS = 3


class GradientError(AssertionError):
    """A gradient disagrees with finite differences."""


def check_gradients(
    function: Callable, params: Tree, *args: Any, tolerance: float = 1e-4, key: jax.Array | None = None
) -> dict[str, float]:
    """function(params, *args) -> scalar; how far `jax.grad` is from finite differences, relative: {path: error}.

    Computed in float64, whatever is given. For each leaf of the parameters and a few random directions v of it, g·v
    with the gradient g is compared with (f(p + εv) - f(p - εv)) / 2ε. Derivatives below 1e-5 of the function's value
    are compared with that instead of with themselves, for differences have no more digits. A kink (relu, max) within ε
    of the point shows up as an error.

    key:  draws the directions

    Raises GradientError naming the worst leaf if it is above `tolerance`, ValueError if the function's value is not a
    finite scalar, TypeError for complex parameters.
    """
    seed = np.zeros(1, np.uint32) if key is None else np.asarray(jax.random.key_data(key))
    random = np.random.default_rng(seed)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if jnp.iscomplexobj(leaf):
            raise TypeError(f"{path_name(path)} is complex: give its real and imaginary parts as two parameters")
    with jax.enable_x64(True):
        params, args = jax.tree.map(_double, (params, args))
        value_and_grad = jax.jit(jax.value_and_grad(function, allow_int=True))
        if jax.eval_shape(function, params, *args).shape != ():
            raise ValueError("check_gradients needs a function that returns a scalar: sum or average its output")
        at, grads = jax.device_get(value_and_grad(params, *args))
        if not np.isfinite(at):
            raise ValueError(f"the function is {at} at the given parameters: there is no gradient to check")
        value = jax.jit(function)
        leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
        errors = {}
        for i, ((path, leaf), grad) in enumerate(zip(leaves, jax.tree.leaves(grads), strict=True)):
            if not np.issubdtype(leaf.dtype, np.floating):
                continue
            worst = 0.0
            for _ in range(DIRECTIONS):
                direction = random.standard_normal(leaf.shape)
                direction /= np.linalg.norm(direction)
                ends = []
                for sign in (1, -1):
                    moved = [p + sign * STEP * direction if i == j else p for j, (_, p) in enumerate(leaves)]
                    ends.append(float(value(treedef.unflatten(moved), *args)))
                measured = (ends[0] - ends[1]) / (2 * STEP)
                given = float(np.vdot(grad, direction))
                scale = max(abs(given), abs(measured), 1e-5 * max(1.0, abs(float(at))))
                worst = float(np.maximum(worst, abs(given - measured) / scale))  # unlike max, keeps a NaN
            errors[path_name(path)] = worst
    bad = {path: error for path, error in errors.items() if not error <= tolerance}
    if bad:
        path = max(bad, key=bad.get)
        raise GradientError(
            f"the gradient of {path} is off by {bad[path]:.1e}, tolerance {tolerance:.0e}; "
            f"{len(bad)} of {len(errors)} leaves are: {', '.join(bad)}"
        )
    return errors


def _double(leaf: Any) -> np.ndarray | jax.Array:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    leaf = np.asarray(leaf)
    return leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
