"""ViT on images and patches that are not square."""

import dataclasses

import jax
import numpy as np
import pytest

import jann
from jann.layers import interpolated
from jann.models import ViT

MODEL = ViT(size=(4, 9), patch=(2, 3), channels=2, embed=8, layers=1, heads=2, hidden=12, outputs=3)


def test_patches_are_a_convolution_row_by_row(drawn):
    params = drawn(MODEL)
    images = jax.random.normal(jax.random.key(1), (5, 4, 9, 2))
    seen = jann.observe(MODEL)(params, images)[1]["embedded"]
    kernel = params["patches"]["weight"]
    patches = jax.lax.conv_general_dilated(images, kernel, (2, 3), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    wanted = patches.reshape(5, 6, 8) + params["patches"]["bias"][None, None] + params["positions"][None, 1:]
    np.testing.assert_allclose(seen[:, 1:], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen[:, 0], np.tile(params["first"] + params["positions"][0], (5, 1)), rtol=1e-6)


def test_other_images_and_patches_that_do_not_fit_are_named(drawn):
    with pytest.raises(ValueError, match=r"images\[\.\.\., 4, 9, 2\] wanted, got \[5, 9, 4, 2\]"):
        MODEL(drawn(MODEL), jax.numpy.zeros((5, 9, 4, 2)))
    with pytest.raises(ValueError, match=r"patch=5 is larger than the image, size=\(4, 9\)"):
        ViT(size=(4, 9), patch=5).spec()


def test_what_patches_do_not_fill_is_not_seen(drawn):
    """As in transformers, whose patches are a convolution without padding."""
    larger, images = dataclasses.replace(MODEL, size=(5, 11)), jax.random.normal(jax.random.key(1), (5, 5, 11, 2))
    np.testing.assert_array_equal(larger(drawn(MODEL), images), MODEL(drawn(MODEL), images[:, :4, :9]))


def test_masked_patches_are_not_seen_and_the_token_in_their_place_is(drawn):
    model = dataclasses.replace(MODEL, mask_token=True)
    params = drawn(model)
    images = jax.random.normal(jax.random.key(1), (2, 4, 9, 2))
    masked = np.arange(6) == 1  # of 2 rows of 3 patches: rows 0 and 1, columns 3 to 5
    changed = images.at[:, :2, 3:6].add(9.0)
    run = jax.jit(model)
    np.testing.assert_array_equal(run(params, changed, masked), run(params, images, masked))
    other = {**params, "masked": -3 * params["masked"]}
    assert np.abs(run(other, images, masked) - run(params, images, masked)).max() > 1e-3
    np.testing.assert_array_equal(run(other, images), run(params, images))
    each = run(params, images, np.stack([masked, ~masked]))
    np.testing.assert_allclose(each[0], run(params, images, masked)[0], rtol=1e-5)
    with pytest.raises(ValueError, match="build the model with mask_token=True"):
        MODEL(drawn(MODEL), images, masked)
    with pytest.raises(ValueError, match=r"masked.*6 patches. wanted, row by row, got .2, 3."):
        model(params, images, masked.reshape(2, 3))


def test_positions_are_interpolated_for_another_size(drawn):
    """The weights are those of torch.nn.functional.interpolate(mode="bicubic"), 2.13, of three numbers as five."""
    want = [[1.096, -0.096, 0], [0.612, 0.46, -0.072], [0, 1, 0], [-0.072, 0.46, 0.612], [0, -0.096, 1.096]]
    np.testing.assert_allclose(interpolated(np.eye(3)[:, None], 5, 1)[:, 0], want, atol=1e-6)
    np.testing.assert_allclose(interpolated(np.eye(3)[None], 1, 5)[0], want, atol=1e-6)
    params = drawn(MODEL)
    model, resized = MODEL.resized(params, (10, 9))
    jann.check(model, resized)
    assert model.grid() == (5, 3)
    weights = np.kron(interpolated(np.eye(2)[:, None], 5, 1)[:, 0], np.eye(3))
    np.testing.assert_allclose(resized["positions"][1:], weights @ params["positions"][1:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(resized["positions"][0], params["positions"][0])
    same = MODEL.resized(params, MODEL.size)[1]["positions"]
    np.testing.assert_allclose(same, params["positions"], rtol=1e-6)
