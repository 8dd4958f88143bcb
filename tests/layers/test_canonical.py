"""Convolutions whose gradients have the order of axes that XLA's CPU compiler is fast with: the values are lax's."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jann
from jann.drawing import fold
from jann.layers import conv, conv_spec
from jann.layers.canonical import channels_last, convolutions_are_canonical, convolve, convolve_few

CASES = {
    "one dimension, causal, dilated": ((9,), (3,), (1,), ((4, 0),), (2,)),
    "two dimensions": ((6, 5), (3, 3), (1, 1), "SAME", (1, 1)),
    "strides": ((7, 8), (3, 2), (2, 3), "SAME", (1, 1)),
    "pads and dilation": ((8, 6), (2, 3), (2, 1), ((1, 2), (0, 3)), (2, 1)),
    "a pad that takes away": ((6, 7), (3, 2), (1, 1), ((1, 1), (-1, 2)), (1, 1)),
    "three dimensions": ((4, 5, 3), (2, 3, 2), (1, 2, 1), "VALID", (1, 1, 1)),
}


def plain(x, weight, stride, padding, dilation):
    names = channels_last(len(stride))
    return lax.conv_general_dilated(x, weight, stride, padding, rhs_dilation=dilation, dimension_numbers=names)


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def strided(key):
    return written_out(convolve, "strides", key)


def written_out(ours, name, key):
    """That function of (x, weight) and lax's, the point, and a direction"""
    places, window, *options = CASES[name]
    shapes = (2, *places, 3), (*window, 3, 4)
    point, direction = (
        tuple(jax.random.normal(fold(key, f"{name}{i}"), shape) for i, shape in enumerate(shapes))
        for name in ("point", "direction")
    )
    return *(jax.jit(lambda x, w, f=f: f(x, w, *options)) for f in (ours, plain)), point, direction


def close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.shape == y.shape and jnp.allclose(x, y, rtol=1e-5, atol=1e-5)


def squared(f):
    return lambda point: jnp.square(f(*point)).sum()


@pytest.mark.parametrize("function", [convolve, convolve_few])
def test_values_and_derivatives_in_both_modes_are_those_of_lax(function, name, key):
    ours, theirs, point, direction = written_out(function, name, key)
    close(ours(*point), theirs(*point))
    close(jax.jvp(ours, point, direction), jax.jvp(theirs, point, direction))
    close(jax.grad(squared(ours))(point), jax.grad(squared(theirs))(point))


def test_second_derivatives_are_those_of_lax(strided):
    ours, theirs, point, direction = strided
    forward = [jax.jvp(jax.grad(squared(f)), (point,), (direction,))[1] for f in (ours, theirs)]
    close(*forward)
    reverse = [jax.grad(lambda at, f=f: dot(jax.grad(squared(f))(at), direction))(point) for f in (ours, theirs)]
    close(*reverse)


def dot(a, b):
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: (x * y).sum(), a, b)))


def test_gradients_of_many_are_those_of_each(strided):
    ours, theirs, (x, weight), _ = strided
    many = jnp.stack([x, 2 * x]), jnp.stack([weight, weight - 1])
    close(jax.vmap(jax.grad(squared(ours)))(many), jax.vmap(jax.grad(squared(theirs)))(many))
    one = jax.vmap(lambda x: jax.grad(lambda w: squared(ours)((x[None], w)))(weight))(x)
    close(one.sum(0), jax.grad(lambda w: squared(theirs)((x, w)))(weight))


@pytest.mark.parametrize("argument", [0, 1])
def test_what_has_no_gradient_costs_nothing(strided, argument):
    ours, _, point, _ = strided
    traced = str(jax.make_jaxpr(jax.grad(lambda *at: squared(ours)(at), argument))(*point))
    assert traced.count("conv_general_dilated[") == 2


def test_gradients_have_the_order_that_is_fast_in_loops(strided):
    ours, theirs, point, _ = strided
    assert convolutions_are_canonical(jax.make_jaxpr(jax.grad(squared(ours)))(point))
    assert not convolutions_are_canonical(jax.make_jaxpr(jax.grad(squared(theirs)))(point))


def test_a_loop_holds_no_other_order_either(key):
    """What XLA makes of a scan over training steps: its own moves of axes do not reach into loops."""
    p = jann.init(conv_spec(3, 4), key)
    x = jax.random.normal(key, (2, 6, 6, 3))

    def step(p, _):
        return jax.tree.map(lambda a, g: a - g, p, jax.grad(lambda p: jnp.square(conv(p, x)).sum())(p)), 0.0

    text = jax.jit(lambda p: lax.scan(step, p, None, 3)).lower(p).compile().as_text()
    orders = {part.split("dim_labels=")[1].split(",")[0] for part in text.split("\n") if " convolution(" in part}
    assert orders == {"b01f_01io->b01f"}
