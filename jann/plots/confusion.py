"""The confusion matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jann.plots.inputs import as_classes, same_length
from jann.plots.style import AMOUNT, INK, NORMAL, SMALL, Picture, color_bar, house_style, text_width

MOST_WRITTEN = 30  # classes; with more the counts would be too small to read, and only colours are shown


@house_style
def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str] | None = None
) -> Figure:
    """Draw how often each class of labels[n] was taken for each class of predictions[n].

    Colours are shares of the row, the true class. classes are the names of class 0, 1, ...; without them
    there are as many as the largest number says. Up to 30 classes have their counts written, up to about 170
    their names.
    """
    size = None if classes is None else len(classes)
    labels, predictions = as_classes("labels", labels, size), as_classes("predictions", predictions, size)
    same_length("labels", labels, "predictions", predictions)
    size = size or max(labels.max(), predictions.max()) + 1
    names = list(map(str, range(size) if classes is None else classes))
    counts = np.bincount(labels * size + predictions, minlength=size * size).reshape(size, size)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    written = size <= MOST_WRITTEN
    cell = max(0.36, 0.12 + text_width(str(counts.max()), SMALL)) if written else 0.11
    side = min(max(2.2, cell * size), 12.0)
    cell = side / size
    longest = max(map(text_width, names))
    upright = longest > 0.85 * cell
    left, bottom = longest + 0.45, (longest if upright else 0.15) + 0.45
    width, height = left + side + 0.85, bottom + side + 0.4
    figure = Picture((width, height))
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.imshow(shares, cmap=AMOUNT, vmin=0, vmax=1)
    if written:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else INK if count else "#BBBBBB"
            axes.text(column, row, count, ha="center", va="center", color=color, size=SMALL)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    if cell > 0.07:
        name_size = min(NORMAL, 0.8 * 72 * cell)
        axes.set_xticks(range(size), names, rotation=90 if upright else 0, size=name_size)
        axes.set_yticks(range(size), names, size=name_size)
    axes.set(xlabel="predicted", ylabel="true")
    color_bar(figure, (left + side + 0.12, bottom, 0.09, side), AMOUNT, (0, 1), "share of the true class")
    right = int(np.trace(counts))
    axes.set_title(f"accuracy {100 * right / len(labels):.1f} % ({right} of {len(labels)})")
    return figure
