"""How well an image was cut into segments."""

import numpy as np


def rand_f_score(segments: np.ndarray, truth: np.ndarray) -> float:
    """segments[...], truth[...]: whole numbers that name the segment of each pixel -> 0 to 1, the higher the better

    The foreground-restricted Rand F-score of Arganda-Carreras et al. 2015, Frontiers in Neuroanatomy 9:142: with p the
    share of pixels in each pair of a segment and a true one, Σ p² over the mean of the two Σ (marginal of p)².
    Merging segments and splitting them count alike. Pixels whose truth is 0 are left out; those that are 0 in
    `segments` are segments of one pixel.

    Raises ValueError for shapes that differ, or where the truth is 0 everywhere.
    """
    segments, truth = np.asarray(segments), np.asarray(truth)
    if segments.shape != truth.shape:
        raise ValueError(f"segments {list(segments.shape)} and truth {list(truth.shape)} differ in shape")
    inside = truth != 0
    if not inside.any():
        raise ValueError("truth is 0 everywhere: there is no segment to be found")
    found, true = segments[inside], truth[inside]
    alone = np.count_nonzero(found == 0)
    pairs = np.unique(np.stack([found[found != 0], true[found != 0]]), axis=1, return_counts=True)[1]
    counts = [np.unique(numbers, return_counts=True)[1] for numbers in (found[found != 0], true)]
    both, ours, theirs = ((each.astype(float) ** 2).sum() for each in (pairs, *counts))
    return float((both + alone) / (0.5 * (ours + alone) + 0.5 * theirs))


def intersection_over_union(found: np.ndarray, truth: np.ndarray) -> float:
    """found[...], truth[...] booleans -> pixels that both have over those that one has, 1 where neither has any

    The intersection over union, or Jaccard index. Raises ValueError for shapes that differ.
    """
    found, truth = np.asarray(found, bool), np.asarray(truth, bool)
    if found.shape != truth.shape:
        raise ValueError(f"found {list(found.shape)} and truth {list(truth.shape)} differ in shape")
    either = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / either if either else 1.0
