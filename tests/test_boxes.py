"""Boxes, what a CenterNet is taught and what it says: against loops, and there and back again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann import boxes
from jann.analysis import average_precision, check_gradients, precision_and_recall
from jann.models import CenterNet


def drawn(n, seed, size=40.0):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, size, (n, 2))
    return np.concatenate([corner, corner + random.uniform(1, size / 2, (n, 2))], 1).astype(np.float32)


def iou(a, b):
    """Counted on a fine grid"""
    at = np.stack(np.meshgrid(*2 * [np.arange(0, 64, 0.1)], indexing="ij"), -1)
    inside = [((at >= box[:2]) & (at < box[2:])).all(-1) for box in (a, b)]
    return (inside[0] & inside[1]).sum() / max(1, (inside[0] | inside[1]).sum())


def test_overlaps_are_counted_areas():
    first, second = drawn(4, 0), drawn(3, 1)
    found = boxes.box_iou(jnp.asarray(first), jnp.asarray(second))
    want = [[iou(a, b) for b in second] for a in first]
    np.testing.assert_allclose(found, want, atol=0.02)
    np.testing.assert_allclose(jnp.diagonal(boxes.box_iou(jnp.asarray(first), jnp.asarray(first))), 1, rtol=1e-6)
    assert boxes.box_iou(jnp.zeros((1, 4)), jnp.zeros((1, 4))) == 0


def targets_of(box, label, shape=(16, 16), classes=3):
    return boxes.center_targets(jnp.asarray(box), jnp.asarray(label), shape, classes)


def test_targets_are_bumps_at_middles():
    box, label = np.array([[4.0, 8, 28, 24], [40, 40, 60, 64], [0, 0, 0, 0]], np.float32), np.array([1, 2, -1])
    targets = targets_of(box, label)
    want = np.zeros((16, 16, 3))
    for (top, left, bottom, right), k in zip(box[:2], label, strict=False):
        y, x = int((top + bottom) / 8), int((left + right) / 8)
        sigma = [max(0.09 * side / 4, 1 / 3) for side in (bottom - top, right - left)]
        for i, j in np.ndindex(16, 16):
            bump = np.exp(-0.5 * (((i - y) / sigma[0]) ** 2 + ((j - x) / sigma[1]) ** 2))
            want[i, j, k] = max(want[i, j, k], bump)
    np.testing.assert_allclose(targets["heatmap"], want, atol=1e-6)
    assert targets["place"][:2].tolist() == [[4, 4], [12, 13]] and targets["there"].tolist() == [1, 1, 0]
    assert (targets["heatmap"] == 1).sum() == 2


def test_what_is_taught_is_what_is_read():
    box = np.array([[4.0, 8, 28, 24], [36, 38, 60, 63], [5, 40, 17, 60]], np.float32)
    label = np.array([1, 2, 1])
    targets = targets_of(box, label)
    outputs = {"heatmap": jnp.log(targets["heatmap"] + 1e-6) - jnp.log(1.001 - targets["heatmap"]),
               "offset": jnp.zeros((16, 16, 2)), "size": jnp.ones((16, 16, 2))}  # fmt: skip
    at = targets["place"]
    for name in ("offset", "size"):
        outputs[name] = outputs[name].at[at[:, 0], at[:, 1]].set(targets[name])
    found = boxes.detections(outputs, most=5)
    assert (found.score[:3] > 0.99).all() and (found.score[3:] < 0.5).all()
    order = np.argsort(np.asarray(found.box[:3, 0]))
    np.testing.assert_allclose(found.box[:3][order], box[np.argsort(box[:, 0])], atol=1e-4)
    assert found.label[:3][order].tolist() == [1, 1, 2]
    loss = boxes.center_loss(outputs, targets)
    assert loss["offset_loss"] == 0 and loss["size_loss"] == 0 and loss["heatmap_loss"] < 0.02


def test_the_loss_is_that_of_the_paper(drawn):
    random = np.random.default_rng(0)
    box, label = np.array([[4.0, 8, 28, 24], [36, 38, 60, 63]], np.float32), np.array([1, -1])
    targets = targets_of(box, label)
    outputs = {"heatmap": random.normal(size=(16, 16, 3)), "offset": random.normal(size=(16, 16, 2)),
               "size": random.normal(size=(16, 16, 2))}  # fmt: skip
    found = boxes.center_loss({name: jnp.asarray(x, jnp.float32) for name, x in outputs.items()}, targets, 0.3)
    p, y = 1 / (1 + np.exp(-outputs["heatmap"])), np.asarray(targets["heatmap"], float)
    focal = -np.where(y == 1, (1 - p) ** 2 * np.log(p), (1 - y) ** 4 * p**2 * np.log(1 - p)).sum()
    offset = np.abs(outputs["offset"][4, 4] - [0, 0]).sum()
    size = np.abs(outputs["size"][4, 4] - [6, 4]).sum()
    np.testing.assert_allclose(found["heatmap_loss"], focal, rtol=1e-5)
    np.testing.assert_allclose([found["offset_loss"], found["size_loss"]], [offset, size], rtol=1e-5)
    np.testing.assert_allclose(found["loss"], focal + offset + 0.3 * size, rtol=1e-5)
    nothing = targets_of(box, np.array([-1, -1]))
    assert np.isfinite(boxes.center_loss({k: jnp.asarray(v) for k, v in outputs.items()}, nothing)["loss"])


def test_the_model_has_gradients_and_shapes(drawn):
    model = CenterNet(1, 2, (4, 8), groups=2, activation=jnp.tanh)
    params, x = drawn(model), jax.random.normal(jax.random.key(0), (2, 16, 24, 1))
    outputs = model(params, x)
    assert {name: value.shape for name, value in outputs.items()} == {
        "heatmap": (2, 4, 6, 2), "offset": (2, 4, 6, 2), "size": (2, 4, 6, 2)
    }  # fmt: skip
    assert (outputs["size"] > 0).all()
    check_gradients(lambda params, x: sum((leaf**2).sum() for leaf in model(params, x).values()), params, x[0])
    started = model(model.init(jax.random.key(0)), x)["heatmap"]
    assert abs(jax.nn.sigmoid(started).mean() - 0.1) < 0.02


def by_thresholds(found, truth, least):
    """Average precision with matches and areas worked out anew for each threshold"""
    scores = sorted({float(s) for _, each in found for s in each}, reverse=True)
    points = []
    for threshold in scores:
        hits = count = 0
        for (box, score), true in zip(found, truth, strict=True):
            free = list(range(len(true)))
            for i in np.argsort(-score):
                if score[i] < threshold:
                    break
                count += 1
                overlaps = [float(boxes.box_iou(box[i][None], t[None])[0, 0]) for t in true]
                best = int(np.argmax(overlaps)) if len(true) else -1
                if best in free and overlaps[best] >= least:
                    free.remove(best)
                    hits += 1
        points.append((hits / sum(map(len, truth)), hits / count))
    area = last = 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - last) * max(precision for _, precision in points[i:])
        last = recall
    return area


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_the_area_under_its_curve(seed):
    random = np.random.default_rng(seed)
    truth = [drawn(n, 10 * seed + n) for n in (3, 0, 5)]
    found = []
    for i, true in enumerate(truth):
        near = np.concatenate([true + random.normal(0, 2, true.shape), true, drawn(3, 50 + i)]).astype(np.float32)
        found.append((near, random.permutation(100)[: len(near)] + 0.1 * i))
    value = average_precision(found, truth, 0.5)
    assert 0.1 < value < 0.9 and value == pytest.approx(by_thresholds(found, truth, 0.5), rel=1e-6)


def test_average_precision_of_plain_cases():
    true = [drawn(3, 0)]
    assert average_precision([(true[0], np.array([0.9, 0.5, 0.7]))], true) == 1
    assert average_precision([(np.zeros((0, 4)), np.zeros(0))], true) == 0
    twice = np.concatenate([true[0][:1], true[0][:1]])
    right, precision, recall = precision_and_recall([(twice, np.array([0.9, 0.8]))], true)
    assert right.tolist() == [True, False] and precision.tolist() == [1, 0.5] and recall[-1] == pytest.approx(1 / 3)
    assert np.isnan(average_precision([(twice, np.ones(2))], [np.zeros((0, 4))]))
    with pytest.raises(ValueError, match="found is of 1 images and truth of 2"):
        average_precision([(twice, np.ones(2))], true * 2)
