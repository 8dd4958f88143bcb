"""Random changes to batches of images[batch, height, width, channels], as pure functions of a key.

Each draws for every image on its own and keeps the dtype, so uint8 images stay small until they are scaled.
Fold a number into the key for each one used: two with the same key would draw the same.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


def random_flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability one half: images[batch, height, width, channels]."""
    _four_axes(images)
    flipped = jax.random.bernoulli(key, shape=(images.shape[0],))
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def random_symmetry(images: jax.Array, key: jax.Array) -> jax.Array:
    """Turns and mirrors each square image by one of the square's eight symmetries: images[batch, size, size, channels].

    Labels of pixels are further channels of the image, so that both go alike.
    """
    _four_axes(images)
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"images[batch, size, size, channels] are square, got {list(images.shape)}")
    flips = jax.random.bernoulli(key, shape=(3, images.shape[0], 1, 1, 1))
    images = jnp.where(flips[0], images[:, ::-1], images)
    images = jnp.where(flips[1], images[:, :, ::-1], images)
    return jnp.where(flips[2], images.swapaxes(1, 2), images)


def random_window(images: jax.Array, key: jax.Array, size: int) -> jax.Array:
    """A part of `size` × `size` pixels of each image, anywhere: images[batch, height, width, channels]."""
    _four_axes(images)
    batch, height, width, channels = images.shape
    if not 1 <= size <= min(height, width):
        raise ValueError(f"size={size}: give from 1 to the images' {min(height, width)} pixels")
    limits = jnp.array([[height - size + 1, width - size + 1]])
    corners = jax.random.randint(key, (batch, 2), 0, limits)
    cut = partial(lax.dynamic_slice, slice_sizes=(size, size, channels))
    return jax.vmap(lambda image, at: cut(image, (at[0], at[1], 0)))(images, corners)


def random_deform(images: jax.Array, key: jax.Array, deviation: float | jax.Array, points: int = 3) -> jax.Array:
    """Bends each image smoothly: images[batch, height, width, channels], floats.

    Vectors at points × points places, drawn from a normal distribution of that deviation in pixels, and between them
    cubic interpolation (Ronneberger et al. 2015, whose deviation is 10); pixels are interpolated linearly, and what
    lies outside is mirrored. Labels of pixels are further channels; round them.
    """
    _four_axes(images)
    batch, height, width, _ = images.shape
    coarse = deviation * jax.random.normal(key, (batch, points, points, 2))
    shifts = jax.image.resize(coarse, (batch, height, width, 2), "cubic")
    at = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)[None] + shifts

    def bend(image, at):
        read = partial(jax.scipy.ndimage.map_coordinates, coordinates=[at[..., 0], at[..., 1]], order=1, mode="mirror")
        return jax.vmap(read, -1, -1)(image)

    return jax.vmap(bend)(images, at)


def random_crop(images: jax.Array, key: jax.Array, pad: int) -> jax.Array:
    """Moves each image by up to `pad` pixels, either way at random: images[batch, height, width, channels].

    Zeros move in: it is a crop of the original size out of the image with `pad` zeros on every side. Zero is
    black before standardising and the mean after it.
    """
    _four_axes(images)
    batch, *shape = images.shape
    offsets = jax.random.randint(key, (batch, 2), 0, 2 * pad + 1)
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return jax.vmap(lambda image, at: lax.dynamic_slice(image, (at[0], at[1], 0), shape))(padded, offsets)


def random_erase(images: jax.Array, key: jax.Array, size: int) -> jax.Array:
    """Sets a square of `size` pixels in each image to zero: images[batch, height, width, channels].

    The square's centre is any pixel, so at the border a part of it falls outside. DeVries and Taylor 2017
    (Cutout), arXiv:1708.04552.
    """
    _four_axes(images)
    batch, height, width, _ = images.shape
    centres = jax.random.randint(key, (batch, 2), 0, jnp.array([[height, width]]))
    corners = centres - size // 2

    def within(corner, length):
        at = jnp.arange(length)[None, :] - corner[:, None]
        return (at >= 0) & (at < size)

    erased = within(corners[:, 0], height)[:, :, None] & within(corners[:, 1], width)[:, None, :]
    return jnp.where(erased[..., None], jnp.zeros((), images.dtype), images)


def _four_axes(images: jax.Array) -> None:
    if images.ndim != 4:
        raise ValueError(f"images are [batch, height, width, channels], got {list(images.shape)}: add the axes of one")


def mixup(
    images: jax.Array, labels_one_hot: jax.Array, key: jax.Array, alpha: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Each image and its label mixed with another's: [batch, ...], [batch, classes] -> both as floats.

    weight · own + (1 − weight) · other, with a weight from Beta(alpha, alpha), alpha > 0, for each pair, and
    the others a random permutation of the batch. uint8 images become float32, in the same units.

    Raises TypeError for class numbers. Zhang, Cisse, Dauphin and Lopez-Paz 2018, arXiv:1710.09412, eq. 1.
    """
    if not jnp.issubdtype(labels_one_hot.dtype, jnp.floating):
        raise TypeError(
            f"labels of dtype {labels_one_hot.dtype} cannot be mixed: give jax.nn.one_hot(labels, classes)"
        )
    batch = images.shape[0]
    weight = jax.random.beta(jax.random.fold_in(key, 0), alpha, alpha, (batch,))
    other = jax.random.permutation(jax.random.fold_in(key, 1), batch)

    def mix(x):
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
        own = weight.reshape((batch,) + (1,) * (x.ndim - 1)).astype(x.dtype)
        return own * x + (1 - own) * x[other]

    return mix(images), mix(labels_one_hot)
