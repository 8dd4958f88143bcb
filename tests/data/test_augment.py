"""Augmentation: against the same change worked out image by image in NumPy, and its distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.data import mixup, random_crop, random_deform, random_erase, random_flip, random_symmetry, random_window


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        yield


def pictures(batch=64, height=6, width=8, channels=2, dtype=np.uint8):
    """Images without a zero and with every pixel of an image different."""
    pixels = 1 + np.arange(height * width * channels, dtype=dtype).reshape(height, width, channels)
    return np.stack([np.roll(pixels, i) for i in range(batch)])


CHANGES = {
    "flip": random_flip,
    "crop": lambda images, key: random_crop(images, key, 2),
    "erase": lambda images, key: random_erase(images, key, 3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_compiled_equals_eager_and_the_key_decides(change, dtype):
    images = pictures(dtype=dtype)
    eager = change(images, jax.random.key(1))
    assert eager.dtype == dtype and eager.shape == images.shape
    np.testing.assert_array_equal(eager, jax.jit(change)(images, jax.random.key(1)))
    assert not np.array_equal(eager, change(images, jax.random.key(2)))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_image_does_not_depend_on_its_neighbours(change):
    images, key = pictures(), jax.random.key(3)
    others = images.copy()
    others[1:] = 7
    np.testing.assert_array_equal(change(images, key)[0], change(others, key)[0])


def test_flip_mirrors_about_half_of_the_images():
    images = pictures(400)
    out = np.asarray(random_flip(images, jax.random.key(0)))
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    kept = (out == images).all((1, 2, 3))
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250  # five standard deviations


def test_crop_is_a_shift_with_zeros_and_every_shift_occurs():
    pad, images = 2, pictures(600)
    out = np.asarray(random_crop(images, jax.random.key(0), pad))
    seen = set()
    for image, moved in zip(images, out, strict=True):
        padded = np.zeros((10, 12, 2), np.uint8)
        padded[2:-2, 2:-2] = image
        fits = [(i, j) for i in range(5) for j in range(5) if (padded[i : i + 6, j : j + 8] == moved).all()]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 25


def test_crop_without_padding_changes_nothing():
    np.testing.assert_array_equal(random_crop(pictures(), jax.random.key(0), 0), pictures())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_erase_clears_one_square_centred_anywhere_and_nothing_else(size):
    images = pictures(600)
    out = np.asarray(random_erase(images, jax.random.key(0), size))
    seen = set()
    for image, erased in zip(images, out, strict=True):
        fits = []
        for y in range(6):
            for x in range(8):
                top, left = y - size // 2, x - size // 2
                wanted = image.copy()
                wanted[max(top, 0) : top + size, max(left, 0) : left + size] = 0
                if (wanted == erased).all():
                    fits.append((y, x))
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 48


def test_mixup_mixes_labels_as_it_mixes_images():
    """With image = its one-hot label, the mixed image is the mixed label, and holds two classes at most."""
    labels = jax.nn.one_hot(jnp.arange(32), 32)
    images, mixed = mixup(labels[:, :, None, None] * jnp.ones((1, 1, 3, 2)), labels, jax.random.key(0), 1.0)
    np.testing.assert_allclose(images, np.asarray(mixed)[:, :, None, None] * np.ones((1, 1, 3, 2)), rtol=1e-6)
    np.testing.assert_allclose(mixed.sum(1), 1, rtol=1e-6)
    assert set((np.asarray(mixed) > 0).sum(1)) <= {1, 2}
    others = (np.asarray(mixed) > 0) & (np.asarray(labels) == 0)
    assert others.any() and others.sum(0).max() == 1  # a permutation: nobody is the other of two


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixups_weights_have_the_betas_mean_and_variance(alpha):
    """Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))."""
    n = 4000
    images = jnp.zeros((n, 1)).at[: n // 2].set(1.0)  # own 1, other 0: the image is the weight itself
    mixed, _ = mixup(images, jax.nn.one_hot(jnp.zeros(n, int), 2), jax.random.key(0), alpha)
    _, paired = mixup(images, jnp.concatenate([images, 1 - images], 1), jax.random.key(0), alpha)
    weights = np.asarray(mixed[: n // 2, 0])
    weights = weights[weights < 1]  # pairs of two ones carry no weight
    np.testing.assert_array_equal(mixed[:, 0], paired[:, 0])
    assert abs(weights.mean() - 0.5) < 0.05
    assert abs(weights.var() - 1 / (4 * (2 * alpha + 1))) < 0.02


def test_mixup_keeps_units_and_refuses_class_numbers():
    images, labels = pictures(32), jax.nn.one_hot(jnp.arange(32), 32)
    mixed, _ = mixup(images, labels, jax.random.key(0), 0.4)
    assert mixed.dtype == jnp.float32
    assert images.min() <= mixed.min() and mixed.max() <= images.max() and mixed.max() > 1
    compiled = jax.jit(mixup)(images, labels, jax.random.key(0), 0.4)
    np.testing.assert_allclose(mixed, compiled[0], rtol=1e-6)
    with pytest.raises(TypeError, match="one_hot"):
        mixup(images, jnp.arange(32), jax.random.key(0), 0.4)


def test_images_without_a_batch_or_channels_are_refused(key):
    for change, options in ((random_flip, ()), (random_crop, (1,)), (random_erase, (2,))):
        for shape in ((8, 8, 3), (4, 8, 8)):
            with pytest.raises(ValueError, match=r"images are \[batch, height, width, channels\], got"):
                change(jnp.ones(shape), key, *options)


def test_symmetries_are_the_eight_of_the_square(key):
    image = jnp.arange(9).reshape(1, 3, 3, 1)
    found = jax.jit(random_symmetry)(jnp.repeat(image, 400, 0), key)
    seen, counts = np.unique(np.asarray(found).reshape(400, 9), axis=0, return_counts=True)
    want = [np.rot90(side, turns).ravel() for side in (image[0, ..., 0], image[0, ..., 0].T) for turns in range(4)]
    assert {tuple(row) for row in seen} == {tuple(row.tolist()) for row in want} and counts.min() > 25
    with pytest.raises(ValueError, match="are square"):
        random_symmetry(jnp.zeros((1, 3, 4, 1)), key)


def test_windows_are_parts_of_the_image(key):
    image = jnp.arange(20).reshape(1, 4, 5, 1)
    found = random_window(jnp.repeat(image, 300, 0), key, 3)
    assert found.shape == (300, 3, 3, 1)
    assert set(found[:, 0, 0, 0].tolist()) == {0, 1, 2, 5, 6, 7}
    np.testing.assert_array_equal(found[:, 2, 2, 0] - found[:, 0, 0, 0], 12)
    with pytest.raises(ValueError, match="size=5: give from 1 to the images' 4 pixels"):
        random_window(image, key, 5)


def test_bending_moves_smoothly_and_by_what_it_says(key):
    rows, columns = jnp.meshgrid(jnp.arange(40.0), jnp.arange(40.0), indexing="ij")
    images = jnp.broadcast_to(jnp.stack([rows, columns], -1), (60, 40, 40, 2))
    bent = random_deform(images, key, 2.0)
    moved = np.asarray(bent - images)[:, 8:-8, 8:-8]  # where nothing is mirrored
    assert 0.8 < moved.std() < 2.0 and np.abs(np.diff(moved, axis=1)).max() < 1
    np.testing.assert_allclose(random_deform(images, key, 0.0), images, atol=1e-5)
    assert (bent[0] != bent[1]).any()
