"""CLIP: two encoders whose vectors meet, and the loss that brings pairs together."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.analysis import check_gradients
from jann.models import CLIP, pair_loss
from jann.models.clip import unit

MODEL = CLIP(
    size=4, patch=2, channels=1, image_embed=8, image_layers=2, image_heads=2, image_hidden=10, vocab=9, positions=6,
    text_embed=6, text_layers=1, text_heads=3, text_hidden=7, shared=5, end_token=8, epsilon=1e-3,
)  # fmt: skip
IMAGES = np.random.default_rng(0).normal(size=(3, 4, 4, 1))
TEXTS = np.array([[1, 2, 8, 0], [3, 8, 0, 0], [4, 5, 6, 8]])


def test_gradients_and_listed_blocks(drawn):
    params = drawn(MODEL)
    check_gradients(lambda p: pair_loss(MODEL(p, IMAGES, TEXTS)), params, tolerance=1e-4)
    listed = jann.core.listed(MODEL, params)
    np.testing.assert_allclose(MODEL(listed, IMAGES, TEXTS), MODEL(params, IMAGES, TEXTS), rtol=1e-4, atol=1e-5)
    assert jann.from_json(json.loads(json.dumps(jann.to_json(MODEL)))) == MODEL


def test_each_image_and_text_by_itself(drawn):
    params = drawn(MODEL)
    whole = MODEL(params, IMAGES, TEXTS)
    assert whole.shape == (3, 3)
    images = jax.vmap(MODEL.image_features, (None, 0))(params, IMAGES)
    texts = jnp.stack([MODEL.text_features(params, row) for row in TEXTS])
    np.testing.assert_allclose(jnp.linalg.norm(images, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(params["scale"]) * images @ texts.T, whole, rtol=1e-4, atol=1e-5)
    noisy = MODEL(params, IMAGES, TEXTS, key=jax.random.key(0))
    np.testing.assert_array_equal(noisy, whole)  # dropout=0


def test_what_is_behind_the_end_of_a_text_is_not_read(drawn):
    params = drawn(MODEL)
    found = MODEL.text_features(params, TEXTS)
    changed = np.array([[1, 2, 8, 7], [3, 8, 8, 5], [4, 5, 6, 8]])
    np.testing.assert_allclose(MODEL.text_features(params, changed), found, rtol=1e-5, atol=1e-6)
    assert np.isnan(MODEL.text_features(params, np.array([1, 2, 3]))).all()


def test_what_does_not_fit_is_named(drawn):
    params = drawn(MODEL)
    with pytest.raises(ValueError, match=r"images\[\.\.\., 4, 4, 1\] wanted, got \[5, 5, 1\]"):
        MODEL.image_features(params, np.zeros((5, 5, 1)))
    with pytest.raises(ValueError, match="7 tokens are more than the model's 6 positions"):
        MODEL.text_features(params, np.zeros(7, int))
    with pytest.raises(ValueError, match="patch=5 is larger than the image, size=4"):
        CLIP(size=4, patch=5).spec()
    with pytest.raises(ValueError, match="heads=5 must divide embed=8"):
        CLIP(size=4, patch=2, image_embed=8, image_heads=5).spec()


def test_lengths_and_losses_of_half_precision_are_computed_in_single():
    large = jnp.full((1, 4), 300.0, jnp.float16)  # whose squares are no numbers of float16
    np.testing.assert_array_equal(unit(large), jnp.full((1, 4), 0.5, jnp.float16))
    loss = pair_loss(jnp.ones((3, 3), jnp.bfloat16))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)
    with pytest.raises(ValueError, match="similarity.* wanted, got .2, 3.: give each image its one text"):
        pair_loss(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"images \[.*\] and tokens \[.*\]: several of each are compared"):
        MODEL(MODEL.init(jax.random.key(0)), IMAGES[0], TEXTS)


def test_pairs_are_learnt(key):
    params, optimizer = MODEL.init(key), optax.adam(3e-3)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state):
        loss, grads = jax.value_and_grad(lambda p: pair_loss(MODEL(p, IMAGES, TEXTS)))(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    for _ in range(150):
        params, opt_state, loss = step(params, opt_state)
    assert loss < 0.05
    np.testing.assert_array_equal(MODEL(params, IMAGES, TEXTS).argmax(1), [0, 1, 2])
