"""Points in the plane, coloured by class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jann.plots.inputs import as_array, as_classes, same_length
from jann.plots.style import COLORS, MARKERS, chart, class_look, describe, grown_legend, house_style


@house_style
def scatter(
    points: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str] | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str | None = None,
) -> Figure:
    """Draw points[n, 2] by their class, labels[n]: what a two-dimensional code makes of a data set.

    classes: a name for each class, by default its number
    """
    points = as_array("points", points, "n, 2")
    if points.shape[1] != 2:
        raise ValueError(f"points must be [n, 2], got shape {list(points.shape)}")
    labels = as_classes("labels", labels, None if classes is None else len(classes))
    same_length("labels", labels, "points", points)
    names = [str(k) for k in range(labels.max() + 1)] if classes is None else classes

    figure, axes = chart(5.0, 4.4)
    drawn, size = [], 9 if labels.max() < len(COLORS) else 18  # markers must be told apart where a colour recurs
    for k in np.unique(labels):
        here = points[labels == k]
        drawn.append(axes.scatter(*here.T, s=size, label=names[k], alpha=0.6, linewidth=0, **class_look(k)))
    describe(axes, title, xlabel, ylabel)
    grown_legend(axes, drawn, len(COLORS) * len(MARKERS), markerscale=2)
    for handle in axes.get_legend().legend_handles:
        handle.set_alpha(1)
    return figure
