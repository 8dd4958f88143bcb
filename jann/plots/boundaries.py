"""Where a classifier of points in the plane changes its mind."""

from collections.abc import Callable

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.special import softmax

from jann.plots.inputs import as_array, as_classes, same_length
from jann.plots.style import COLORS, INK, MARKERS, chart, class_look, describe, grown_legend, house_style


@house_style
def decision_boundary(
    predict: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    labels: np.ndarray,
    resolution: int = 200,
    title: str | None = None,
) -> Figure:
    """Draw points[n, 2] by their class, labels[n], over what `predict` says of the plane around them.

    predict(grid[m, 2] float32) gives class numbers [m] (integers), probabilities of class 1 [m] (floats), or
    logits or probabilities [m, classes]. The classes' colours are mixed by their probabilities; the lines are
    where another class becomes the likeliest.
    """
    points = as_array("points", points, "n, 2")
    if points.shape[1] != 2:
        raise ValueError(f"points must be [n, 2], got shape {list(points.shape)}")
    if not np.isfinite(points).all():
        raise ValueError(f"points has {np.sum(~np.isfinite(points))} values that are not finite")
    labels = as_classes("labels", labels)
    same_length("labels", labels, "points", points)
    if resolution < 2:
        raise ValueError(f"resolution must be at least 2, got {resolution}")
    low, high = points.min(0), points.max(0)
    room = np.where(high > low, 0.08 * (high - low), 0.5)
    across, up = np.linspace(low - room, high + room, resolution, dtype=np.float32).T
    plane = np.stack(np.meshgrid(across, up), -1)
    scores = as_scores(predict(plane.reshape(-1, 2)), resolution**2, int(labels.max()) + 1)
    classes = scores.shape[1]
    if labels.max() >= classes:
        raise ValueError(f"labels go up to {labels.max()} but predict gives {classes} classes")

    figure, axes = chart(4.4, 4.0)
    colors = np.array([to_rgb(COLORS[k % len(COLORS)]) for k in range(classes)])
    shades = 1 - 0.4 * (1 - as_probabilities(scores) @ colors)
    extent = (across[0], across[-1], up[0], up[-1])
    # The first and last places are at the edges, so half of each outermost pixel lies beyond them.
    half = np.repeat(0.5 * np.array([across[1] - across[0], up[1] - up[0]]), 2) * [-1, 1, -1, 1]
    picture = shades.reshape(resolution, resolution, 3)
    axes.imshow(picture, extent=extent + half, origin="lower", aspect="auto", interpolation="bilinear")
    for k in range(classes if classes > 2 else classes - 1):  # two classes have one boundary
        margin = (scores[:, k] - np.delete(scores, k, 1).max(1)).reshape(resolution, resolution)
        if margin.min() < 0 < margin.max():
            axes.contour(across, up, margin, levels=[0], colors=INK, linewidths=1)
    drawn = []
    for k in range(classes):
        here = points[labels == k]
        look = class_look(k) | {"edgecolor": "white", "linewidth": 0.5}
        drawn.append(axes.scatter(*here.T, s=22, label=f"class {k}", zorder=3, **look))
    axes.grid(False)
    axes.set(xlim=extent[:2], ylim=extent[2:])
    describe(axes, title, "x₁", "x₂")
    grown_legend(axes, drawn, len(COLORS) * len(MARKERS))
    return figure


def as_scores(answer, places: int, least_classes: int) -> np.ndarray:
    """What predict gave, as scores[places, classes] of which the largest wins."""
    answer = as_array("what predict returns", answer, "m", "m, classes")
    if len(answer) != places or (answer.ndim == 2 and answer.shape[1] < 2):
        raise ValueError(
            f"predict must return [{places}] or [{places}, classes] here, got shape {list(answer.shape)}"
        )
    if not np.isfinite(answer).all():
        raise ValueError(f"predict returned {np.sum(~np.isfinite(answer))} values that are not finite")
    if answer.ndim == 2:
        return answer.astype(np.float64)
    if answer.dtype.kind in "biu":
        numbers = as_classes("what predict returns", answer)
        return np.eye(max(int(numbers.max()) + 1, least_classes, 2))[numbers]
    if answer.min() < 0 or answer.max() > 1:
        raise ValueError(
            "predict returned floats [m], which must be probabilities of class 1, but they run from "
            f"{answer.min():.3g} to {answer.max():.3g}: apply a sigmoid, or return integers or [m, classes]"
        )
    return np.stack([1 - answer, answer], 1).astype(np.float64)


def as_probabilities(scores: np.ndarray) -> np.ndarray:
    """The scores, if each row is a distribution already, else their softmax."""
    if scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    return softmax(scores, axis=1)
