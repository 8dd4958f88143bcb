"""ConvNeXt: blocks that are left out, seeds side by side, sizes of images, and what does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.models import ConvNeXt

MODEL = ConvNeXt(2, 3, (1, 2), (4, 5), patch=2, layer_scale=0.5)
IMAGES = np.random.default_rng(0).normal(size=(3, 6, 8, 2)).astype(np.float32)


@pytest.fixture
def params(drawn):
    return drawn(MODEL)


def test_left_out_blocks_pass_each_example_on_as_it_is_or_enlarged(params):
    """At a rate of 2 / 3 of the last block, the one before it has a third."""
    noisy = dataclasses.replace(MODEL, drop_path=2 / 3)
    plain = MODEL(params, IMAGES)
    np.testing.assert_array_equal(noisy(params, IMAGES), plain)
    images = np.broadcast_to(IMAGES[0], (600, *IMAGES.shape[1:]))
    _, seen = jax.jit(lambda key: jann.observe(noisy)(params, images, key=key))(jax.random.key(0))
    before, after = np.asarray(seen["stage_1/block"], np.float64)
    _, whole = jann.observe(MODEL)(params, images[:1])
    np.testing.assert_allclose(seen["stage_0/block"][0, 0], whole["stage_0/block"][0, 0], rtol=1e-5, atol=1e-6)
    changed = np.abs(after - before).max((1, 2, 3)) > 0
    assert abs(changed.mean() - 1 / 3) < 0.06
    kept = changed & (np.abs(before - before[changed][0]).max((1, 2, 3)) == 0)
    alone = MODEL.block(jnp.asarray(before[kept][:1], jnp.float32), jax.tree.map(lambda leaf: leaf[1],
                        params["stages"][1]["blocks"]), None, None)[0]  # fmt: skip
    np.testing.assert_allclose((after - before)[kept][0], 3 * (alone[0] - before[kept][0]), rtol=1e-3, atol=1e-5)


def test_listed_blocks_and_seeds_side_by_side_are_the_same(params):
    whole = MODEL(params, IMAGES)
    np.testing.assert_allclose(MODEL(jann.core.listed(MODEL, params), IMAGES), whole, rtol=1e-4, atol=1e-5)
    keys = jax.random.split(jax.random.key(1), 2)
    several = jax.vmap(MODEL.init)(keys)
    one = MODEL(MODEL.init(keys[1]), IMAGES)
    np.testing.assert_allclose(jax.vmap(MODEL, (0, None))(several, IMAGES)[1], one, rtol=1e-4, atol=1e-5)


def test_without_classes_it_gives_features_and_their_norm(params):
    bare = dataclasses.replace(MODEL, outputs=0)
    body = {name: part for name, part in params.items() if name != "head"}
    features = bare(body, IMAGES)
    assert features.shape == (3, 1, 2, 5)
    logits = jann.layers.linear(params["head"], bare.pooled(body, features))
    np.testing.assert_allclose(logits, MODEL(params, IMAGES), rtol=1e-5, atol=1e-6)


def test_rows_that_fill_no_patch_are_not_seen(params):
    wider = np.pad(IMAGES, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=9)
    np.testing.assert_array_equal(MODEL(params, wider), MODEL(params, IMAGES))


def test_adapters_start_as_nothing(params):
    low = jann.adapt.low_rank(MODEL, params, rank=2, targets="mlp_in|mlp_out", key=jax.random.key(2))
    np.testing.assert_allclose(MODEL(low, IMAGES), MODEL(params, IMAGES), rtol=1e-5, atol=1e-6)
    train, _ = jann.adapt.trainable(low)
    assert len(jann.flatten(train)) == 8


def test_what_does_not_fit_is_named(params):
    with pytest.raises(ValueError, match=r"images.* 2\] of at least 4 x 4 wanted, got \[3, 3, 8, 2\]"):
        MODEL(params, IMAGES[:, :3])
    with pytest.raises(ValueError, match=r"wanted, got \[3, 2, 6, 8\]"):
        MODEL(params, np.moveaxis(IMAGES, -1, 1))
    with pytest.raises(ValueError, match="a width for each stage, got depths=.1, 2., widths=.4,."):
        dataclasses.replace(MODEL, widths=(4,))
    with pytest.raises(ValueError, match="a stage has at least one block"):
        dataclasses.replace(MODEL, depths=(1, 0))
