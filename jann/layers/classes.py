"""Classes as inputs, for models that are asked for one."""

import jax
import jax.numpy as jnp
import numpy as np

from jann.layers.dtypes import wide_integers


def one_hot(label: jax.Array, classes: int) -> jax.Array:
    """label[...] integers from 0 to below `classes` -> float32 [..., classes], 1 at the label and 0 elsewhere.

    Raises TypeError for labels that are not integers, ValueError naming one out of range; where they are traced, such a
    one gives NaN.
    """
    label = jnp.asarray(label)
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise TypeError(f"labels are integers, the numbers of classes, got {label.dtype}")
    if not isinstance(label, jax.core.Tracer):
        known = np.asarray(label)  # by NumPy, for within jit JAX would trace this too
        wrong = known[(known < 0) | (known >= classes)]
        if wrong.size:
            raise ValueError(f"label {wrong[0]}: there are classes 0 to {classes - 1}")
    label = wide_integers(label)
    inside = (label >= 0) & (label < classes)
    return jnp.where(inside[..., None], jax.nn.one_hot(label, classes), jnp.nan)
