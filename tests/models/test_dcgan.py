"""DCGAN: sizes, how a class enters, and what cannot be built."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.models import Discriminator, Generator


@pytest.mark.parametrize(("size", "widths"), [(8, (6, 4)), (28, (6, 4)), (32, (6, 4, 3)), (64, (6, 5, 4, 3))])
def test_from_noise_to_an_image_and_to_a_score(size, widths, drawn, key):
    generator = Generator(5, size, 3, widths, classes=4)
    discriminator = Discriminator(size, 3, widths[::-1], classes=4)
    label = jnp.array([0, 3])
    images = jax.jit(generator)(drawn(generator), jax.random.normal(key, (2, 5)), label)
    assert images.shape == (2, size, size, 3) and jnp.abs(images).max() <= 1 and jnp.std(images) > 0.01
    scores = jax.jit(discriminator)(drawn(discriminator), images, label)
    assert scores.shape == (2,) and jnp.all(jnp.isfinite(scores))


def test_the_class_is_a_bias_of_the_first_layer(drawn, key):
    """With the class beside the noise, the dense kernel's rows after the noise's are an embedding of the classes."""
    conditional, plain = (Generator(5, 4, 1, (3,), classes, batch_norm=False) for classes in (4, 0))
    params, z = drawn(conditional), jax.random.normal(key, (2, 5))
    weight, bias = params["dense"]["weight"], params["dense"]["bias"]
    conditioned, shifted = jax.jit(conditional), jax.jit(plain)
    for label in range(4):
        moved = {**params, "dense": {"weight": weight[:5], "bias": bias + weight[5 + label]}}
        images = conditioned(params, z, jnp.full(2, label))
        np.testing.assert_allclose(shifted(moved, z), images, rtol=1e-4, atol=1e-5)
        assert jnp.abs(images - conditioned(params, z, jnp.full(2, (label + 1) % 4))).max() > 1e-3


def test_the_score_of_a_class_is_a_projection(drawn, key):
    """score(x, a) − score(x, b) = <features, table[a] − table[b]>"""
    discriminator = Discriminator(8, 1, (3, 4), classes=3)
    params, x = drawn(discriminator), jax.random.normal(key, (2, 8, 8, 1))
    look = jax.jit(jann.observe(discriminator))
    (first, seen), (second, _) = look(params, x, jnp.array([0, 0])), look(params, x, jnp.array([1, 2]))
    table, features = params["classes"]["table"], seen["layer_1"].reshape(2, -1)
    want = (features * (table[jnp.array([0, 0])] - table[jnp.array([1, 2])])).sum(-1)
    np.testing.assert_allclose(first - second, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("model", "size"), [(Generator, 30), (Discriminator, 30), (Generator, 2)])
def test_a_size_that_does_not_halve_is_refused(model, size):
    with pytest.raises(ValueError, match=f"{model.__name__}.*size={size} must be a multiple of 4"):
        model(size=size)


def test_labels_are_asked_for_and_checked(drawn):
    discriminator = Discriminator(8, 1, (3, 4), classes=3)
    params, x = drawn(discriminator), jnp.ones((2, 8, 8, 1))
    with pytest.raises(ValueError, match="Discriminator with classes=3 needs labels"):
        discriminator(params, x)
    with pytest.raises(ValueError, match="label 3: there are classes 0 to 2"):
        discriminator(params, x, jnp.array([0, 3]))
    with pytest.raises(ValueError, match="Generator with classes=0 takes no labels"):
        Generator(5, 8)(drawn(Generator(5, 8)), jnp.ones((2, 5)), jnp.array([0, 1]))
