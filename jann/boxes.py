"""Boxes around objects, [..., 4]: top, left, bottom, right; what a detector by middles is taught, and what it says."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jann.layers.dtypes import wide_dtype


class Detections(NamedTuple):
    """The most probable boxes of each image, the first the most probable."""

    box: jax.Array  # [..., most, 4]
    label: jax.Array  # [..., most]
    score: jax.Array  # [..., most], 0 to 1


def box_iou(first: jax.Array, second: jax.Array) -> jax.Array:
    """first[..., n, 4], second[..., m, 4] -> the intersection of each two over their union, [..., n, m]

    0 where neither has an area.
    """
    a, b = first[..., :, None, :], second[..., None, :, :]
    sides = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    both = jnp.maximum(sides, 0).prod(-1)
    areas = [jnp.maximum(box[..., 2:] - box[..., :2], 0).prod(-1) for box in (a, b)]
    either = areas[0] + areas[1] - both
    return jnp.where(either > 0, both / jnp.where(either > 0, either, 1), 0)


def center_targets(
    box: jax.Array, label: jax.Array, shape: tuple[int, int], classes: int, stride: int = 4
) -> dict[str, jax.Array]:
    """box[most, 4] in pixels and label[most], −1 for none, of an image -> what `jann.models.CenterNet` should say of it

    heatmap:  [*shape, classes], 1 at middles, and around them exp(−d² / 2σ²) with σ of 0.09 of the box's height, and
              width, at least a third of a place (Liu et al. 2020, "Training-time-friendly network", AAAI); the largest
              where they overlap
    place:    [most, 2], where in the map the middle of each box is; offset, size: [most, 2], as the model's
    there:    [most], 0 where there is no box
    """
    middle, size = (box[:, :2] + box[:, 2:]) / 2 / stride, (box[:, 2:] - box[:, :2]) / stride
    limit = jnp.asarray(shape) - 1
    place = jnp.clip(jnp.floor(middle).astype(jnp.int32), 0, limit[None])
    sigma = jnp.maximum(0.09 * size, 1 / 3)
    away = [
        jnp.square((jnp.arange(n)[None, :] - place[:, i, None]) / sigma[:, i, None]) for i, n in enumerate(shape)
    ]  # fmt: skip
    bumps = jnp.exp(-0.5 * (away[0][:, :, None] + away[1][:, None, :]))
    own = jax.nn.one_hot(label, classes)  # 0 everywhere for −1
    heatmap = (bumps[..., None] * own[:, None, None, :]).max(0)
    there = (label >= 0).astype(box.dtype)
    return {"heatmap": heatmap, "place": place, "offset": middle - place, "size": size, "there": there}


def center_loss(
    outputs: dict[str, jax.Array], targets: dict[str, jax.Array], size_weight: float = 0.1
) -> dict[str, jax.Array]:
    """What a `CenterNet` says of an image, `center_targets` -> {"loss", "heatmap_loss", "offset_loss", "size_loss"}

    Zhou et al. 2019, eq. 1 to 4: the focal loss of the heatmap, (1 − p)² log p at middles and (1 − y)⁴ p² log(1 − p)
    elsewhere, so that a guess nearby costs little; and the absolute errors of offset and, in places, of size; each over
    the number of boxes.
    """
    heatmap = outputs["heatmap"].astype(wide_dtype(outputs["heatmap"]))
    wanted, there, place = targets["heatmap"], targets["there"], targets["place"]
    boxes = jnp.maximum(there.sum(), 1)
    p = jax.nn.sigmoid(heatmap)
    at = jnp.square(1 - p) * jax.nn.log_sigmoid(heatmap)
    elsewhere = (1 - wanted) ** 4 * jnp.square(p) * jax.nn.log_sigmoid(-heatmap)
    focal = -jnp.where(wanted == 1, at, elsewhere).sum() / boxes

    def error(name):
        said = outputs[name][place[:, 0], place[:, 1]]
        return (jnp.abs(said - targets[name]).sum(-1) * there).sum() / boxes

    offset, size = error("offset"), error("size")
    return {
        "loss": focal + offset + size_weight * size,
        "heatmap_loss": focal,
        "offset_loss": offset,
        "size_loss": size,
    }


def detections(outputs: dict[str, jax.Array], most: int = 100, stride: int = 4) -> Detections:
    """What a `CenterNet` says of an image -> its boxes, in pixels: the highest peaks of its heatmap

    A peak is no lower than its eight neighbours, which stands for suppressing all but one of boxes that overlap.
    """
    scores = jax.nn.sigmoid(outputs["heatmap"])
    highest = jax.lax.reduce_window(scores, -jnp.inf, jax.lax.max, (3, 3, 1), (1, 1, 1), "same")
    peaks = jnp.where(scores == highest, scores, 0)
    height, width, classes = peaks.shape
    score, at = jax.lax.top_k(peaks.reshape(-1), min(most, peaks.size))
    place, label = jnp.divmod(at, classes)
    rows = jnp.stack(jnp.divmod(place, width), -1)
    middle = rows + outputs["offset"].reshape(-1, 2)[place]
    half = outputs["size"].reshape(-1, 2)[place] / 2
    return Detections(stride * jnp.concatenate([middle - half, middle + half], -1), label, score)
