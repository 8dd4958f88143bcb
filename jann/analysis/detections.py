"""How well objects were found."""

from collections.abc import Sequence

import numpy as np


def average_precision(
    found: Sequence[tuple[np.ndarray, np.ndarray]], truth: Sequence[np.ndarray], least: float = 0.5
) -> float:
    """Of one class: for each image (boxes[n, 4], scores[n]) that were found, and true boxes[m, 4] -> 0 to 1

    As Pascal VOC has it since 2010: by falling score over all images, a box is right if it overlaps a true one that no
    earlier box has taken, by an intersection over union of at least `least`, with the one that it overlaps most; the
    area under precision over recall, where precision is the highest at that recall or more. Everingham et al. 2015,
    International Journal of Computer Vision 111.

    NaN where there is no true box. Raises ValueError where the images are not as many.
    """
    if len(found) != len(truth):
        raise ValueError(f"found is of {len(found)} images and truth of {len(truth)}")
    right, precision, recall = precision_and_recall(found, truth, least)
    if recall is None:
        return float("nan")
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * highest).sum())


def precision_and_recall(found, truth, least: float = 0.5):
    """As `average_precision` -> (whether each is right, precision and recall down to it), by falling score over images

    Recall is None where there is no true box.
    """
    images = np.concatenate([np.full(len(scores), i) for i, (_, scores) in enumerate(found)]).astype(int)
    boxes = np.concatenate([np.reshape(boxes, (-1, 4)) for boxes, _ in found])
    order = np.argsort(-np.concatenate([scores for _, scores in found]), kind="stable")
    taken = [np.zeros(len(true), bool) for true in truth]
    right = np.zeros(len(order), bool)
    for at, i in enumerate(order):
        true = truth[images[i]]
        if len(true):
            overlaps = _ious(boxes[i], true)
            best = int(overlaps.argmax())
            right[at] = overlaps[best] >= least and not taken[images[i]][best]
            taken[images[i]][best] |= right[at]
    total = sum(map(len, truth))
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    return right, precision, hits / total if total else None


def _ious(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = np.maximum(sides, 0).prod(1)
    area = (box[2:] - box[:2]).prod()
    return both / np.maximum(area + (others[:, 2:] - others[:, :2]).prod(1) - both, 1e-12)
