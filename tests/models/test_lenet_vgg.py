"""LeNet-5 and VGG: what they refuse, what they compute, what their options do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann import layers
from jann.models import VGG, LeNet


def test_lenet_of_28_is_that_of_the_padded_32(key):
    params = LeNet().init(key)
    x = jax.random.normal(key, (2, 28, 28, 1))
    padded = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_allclose(LeNet()(params, x), LeNet(size=32)(params, padded), rtol=1e-4, atol=1e-5)


def test_lenet_by_the_paper(key):
    """Maps and sizes of the paper's layers C1, C3, C5, F6, and the output from the last one's values."""
    params = LeNet(pooling=layers.max_pool).init(key)
    logits, taps = jann.observe(LeNet(pooling=layers.max_pool))(params, jax.random.normal(key, (28, 28, 1)))
    assert {name: tap.shape for name, tap in taps.items()} == {
        "conv1": (28, 28, 6), "conv2": (10, 10, 16), "dense1": (120,), "dense2": (84,)
    }  # fmt: skip
    np.testing.assert_allclose(taps["dense2"] @ params["head"]["weight"], logits, rtol=1e-5, atol=1e-6)


def test_lenet_refuses_other_sizes(key):
    with pytest.raises(ValueError, match="28 or 32, got 30"):
        LeNet(size=30)
    with pytest.raises(ValueError, match=r"takes x\[..., 28, 28, 1\], got \[2, 32, 32, 1\]"):
        LeNet()(LeNet().init(key), jnp.zeros((2, 32, 32, 1)))


def test_vgg_by_hand(key):
    """One block of two convolutions, written out."""
    model = VGG(2, 3, ((4, 5),), batch_norm=False)
    params = model.init(key)
    first, second = params["blocks"][0]
    x = jax.random.normal(key, (6, 6, 2))
    y = jax.nn.relu(layers.conv(second["conv"], jax.nn.relu(layers.conv(first["conv"], x, padding=1)), padding=1))
    y = y.reshape(3, 2, 3, 2, 5).max((1, 3)).mean((0, 1))
    want = y @ params["dense"][0]["weight"]
    np.testing.assert_allclose(model(params, x), want, rtol=1e-4, atol=1e-5)


def test_vgg_drops_only_with_a_key(key):
    model = VGG(2, 3, ((4,),), hidden=(64,), size=4, batch_norm=False, dropout=0.5)
    params, x = model.init(key), jax.random.normal(key, (4, 4, 2))
    plain = model(params, x)
    np.testing.assert_array_equal(plain, model(params, x))
    samples = jax.vmap(lambda k: model(params, x, key=k))(jax.random.split(key, 4000))
    assert np.std(samples, 0).min() > 0.01
    # the last layer is linear in what is dropped before it: with no dropout below, the mean is the plain output
    shallow = VGG(2, 3, ((4,),), batch_norm=False, dropout=0.5)
    params = shallow.init(key)
    samples = jax.vmap(lambda k: shallow(params, x, key=k))(jax.random.split(key, 4000))
    standard_error = np.std(samples, 0) / np.sqrt(4000)
    assert (np.abs(samples.mean(0) - shallow(params, x)) < 5 * standard_error).all()


def test_wrong_channels_name_the_parameter(key):
    with pytest.raises(jann.ShapeError, match="parameter blocks/0/0/conv/weight.*got"):
        VGG(3).apply(VGG(3).init(key), jnp.zeros((28, 28, 1)))
