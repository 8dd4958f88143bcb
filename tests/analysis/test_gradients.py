"""The gradient check passes what is right and names what is wrong."""

import jax
import jax.numpy as jnp
import pytest

from jann.analysis import GradientError, check_gradients


@jax.custom_vjp
def wrong_cube(x):
    return x**3


wrong_cube.defvjp(lambda x: (x**3, x), lambda x, g: (2.9 * x**2 * g,))


def test_right_gradients_pass(key):
    params = {"a": [jax.random.normal(key, (3, 2))], "b": jnp.float32(0.7), "count": jnp.array([2, 3])}

    def function(p, x):
        return jnp.sum(jnp.sin(p["a"][0] @ x) * p["b"]) + p["count"].sum()

    errors = check_gradients(function, params, jnp.ones(2))
    assert errors.keys() == {"a/0", "b"} and max(errors.values()) < 1e-8
    assert jax.dtypes.canonicalize_dtype(float) == jnp.float32


def test_the_worst_leaf_is_named_with_how_far_it_is_off():
    params = {"good": jnp.ones(3), "bad": jnp.ones(3)}
    with pytest.raises(GradientError, match=r"gradient of bad is off by 3\.[34]e-02.*1 of 2"):
        check_gradients(lambda p: wrong_cube(p["bad"]).sum() + (p["good"] ** 3).sum(), params)


def test_an_unused_leaf_is_no_error_and_a_kink_is():
    assert check_gradients(lambda p: jnp.sum(p["a"] ** 2), {"a": jnp.ones(2), "unused": jnp.ones(2)})["unused"] == 0
    with pytest.raises(GradientError):
        check_gradients(lambda x: jnp.abs(x).sum(), jnp.full(3, 1e-7))


def test_what_is_no_scalar_is_refused():
    with pytest.raises(ValueError, match="returns a scalar"):
        check_gradients(lambda x: x, jnp.ones(2))


def test_complex_parameters_are_refused_by_name():
    with pytest.raises(TypeError, match="a/0 is complex"):
        check_gradients(lambda p: jnp.abs(p["a"][0]).sum(), {"a": [jnp.ones(2, jnp.complex64)]})
