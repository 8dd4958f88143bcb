"""Labels as inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.layers import one_hot


def test_values_with_any_leading_axes():
    label = np.array([[2, 0], [1, 1]])
    np.testing.assert_array_equal(one_hot(label, 3), np.eye(3)[label])
    np.testing.assert_array_equal(one_hot(2, 3), [0, 0, 1])
    for dtype in (np.uint8, np.int8):  # which have no number for so many classes
        np.testing.assert_array_equal(one_hot(label.astype(dtype), 256), np.eye(256)[label])


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_label_out_of_range_is_named(wrong):
    for call in (one_hot, lambda label, n: jax.jit(lambda: one_hot(jnp.array(label), n))()):  # a constant of a jit too
        with pytest.raises(ValueError, match=f"label {wrong}: there are classes 0 to 2"):
            call(np.array([0, wrong, 1]), 3)


def test_traced_it_gives_nan_for_that_one_alone():
    with jax.debug_nans(False):
        rows = jax.jit(one_hot, static_argnums=1)(np.array([0, 3, -1, 2]), 3)
    np.testing.assert_array_equal(np.isnan(rows).any(-1), [False, True, True, False])
    np.testing.assert_array_equal(rows[3], [0, 0, 1])


def test_floats_are_not_labels():
    with pytest.raises(TypeError, match="integers"):
        one_hot(jnp.array([0.0, 1.0]), 3)
