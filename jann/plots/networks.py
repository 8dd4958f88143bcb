"""A diagram of a fully connected network."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure

from jann.plots.inputs import as_array, largest_size
from jann.plots.style import (
    FAINT,
    NEGATIVE,
    NORMAL,
    POSITIVE,
    SIGNED,
    SMALL,
    canvas,
    color_bar,
    house_style,
    text_width,
)

PITCH, BETWEEN, DIAMETER, MARGIN, BELOW, LEAST_HEIGHT = 0.26, 1.9, 0.17, 0.3, 0.4, 2.6  # inches
DOTS = np.array([-0.07, 0.0, 0.07])  # inches about the middle: neurons left out


@house_style
def network(
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray] | None = None,
    activations: Sequence[np.ndarray] | None = None,
    labels: Sequence[str] | None = None,
    max_neurons: int = 16,
) -> Figure:
    """Draw the layers of weights[inputs, outputs] as columns of neurons and lines between them.

    A line's colour is its weight's sign; its width and opacity are the weight's size, relative to the largest
    drawn. A neuron's outline shows biases[i][outputs] in the same way, relative to the largest bias. Its
    filling shows the activation of one example, relative to the largest of its layer: activations[0][inputs]
    is the input, activations[i + 1][outputs] what layer i gave. labels name the outputs. Of a layer with more
    than max_neurons only the first and the last are drawn, and its size is written below.
    """
    weights, biases, activations = checked(weights, biases, activations, labels)
    if max_neurons < 2:
        raise ValueError(f"max_neurons must be at least 2, got {max_neurons}")
    sizes = [weights[0].shape[0], *(weight.shape[1] for weight in weights)]
    shown = [chosen(size, max_neurons) for size in sizes]
    rows = max(len(kept) + (len(kept) < size) for kept, size in zip(shown, sizes, strict=True))
    names = [] if labels is None else [str(labels[neuron]) for neuron in shown[-1]]
    beside = 1.0 + max(map(text_width, names), default=0)
    width = BETWEEN * len(weights) + 2 * MARGIN + 0.3 + beside
    height = max(PITCH * rows, LEAST_HEIGHT) + 2 * MARGIN + BELOW
    figure, axes = canvas(width, height)
    middle = (height + BELOW) / 2
    pitch = min(max(PITCH, LEAST_HEIGHT / rows), 2 * PITCH)
    places = []
    for layer, (kept, size) in enumerate(zip(shown, sizes, strict=True)):
        left = np.full(len(kept), MARGIN + 0.3 + BETWEEN * layer)
        places.append(np.stack([left, middle + pitch * places_down(len(kept), size)], 1))

    largest = draw_connections(axes, weights, shown, places)
    largest_bias = largest_size(np.concatenate(biases)) if biases else 1.0
    for layer, (kept, size, place) in enumerate(zip(shown, sizes, places, strict=True)):
        fill, edge, edge_width = "white", FAINT, 0.8
        if activations:
            fill = SIGNED(0.5 + 0.5 * activations[layer][kept] / largest_size(activations[layer]))
        if biases and layer:
            bias = biases[layer - 1][kept] / largest_bias
            edge, edge_width = sign_colors(bias, 0.35 + 0.65 * np.abs(bias)), 0.8 + 1.6 * np.abs(bias)
        area = (72 * DIAMETER) ** 2
        axes.scatter(*place.T, s=area, c=fill, edgecolors=edge, linewidths=edge_width, zorder=2)
        if len(kept) < size:
            axes.scatter(place[:3, 0], middle + DOTS, s=4, c=FAINT, linewidths=0, zorder=2)
        name = "input" if layer == 0 else "output" if layer == len(weights) else f"hidden {layer}"
        count = f"{size}, {len(kept)} shown" if len(kept) < size else f"{size}"
        axes.text(place[0, 0], MARGIN + 0.12, name, ha="center", va="bottom", size=NORMAL)
        axes.text(place[0, 0], MARGIN + 0.06, count, ha="center", va="top", size=SMALL, color=FAINT)
    for name, (left, up) in zip(names, places[-1], strict=False):
        axes.text(left + DIAMETER, up, name, va="center", size=NORMAL)

    bars = [("weight", largest)]
    if biases:
        bars.append(("bias (outline)", largest_bias))
    if activations:
        bars.append(("activation, of the\nlayer's largest", 1.0))
    tall = (height - 2 * MARGIN - 0.3 * (len(bars) - 1)) / max(len(bars), 2)
    for index, (name, limit) in enumerate(bars):
        box = (width - 1.0, height - MARGIN - tall - index * (tall + 0.3), 0.09, tall)
        color_bar(figure, box, SIGNED, (-limit, limit), name, ticks=[-limit, 0, limit], format="{x:.2g}")
    return figure


def draw_connections(axes: Axes, weights, shown, places) -> float:
    """Draw the weights between the shown neurons at their places; the size of the largest."""
    segments, values = [], []
    for layer, weight in enumerate(weights):
        start, end = places[layer], places[layer + 1]
        pairs = np.stack(np.broadcast_arrays(start[:, None], end[None, :]), 2)
        segments.append(pairs.reshape(-1, 2, 2))
        values.append(weight[np.ix_(shown[layer], shown[layer + 1])].ravel())
    segments, values = np.concatenate(segments), np.concatenate(values)
    largest = largest_size(values)
    order = np.argsort(np.abs(values), kind="stable")  # the strongest last, and so on top
    strength = np.abs(values[order]) / largest
    colors, widths = sign_colors(values[order], strength**1.3), 0.3 + 1.5 * strength
    axes.add_collection(LineCollection(segments[order], colors=colors, linewidths=widths, zorder=1))
    return largest


def checked(weights, biases, activations, labels):
    """The arguments as lists of arrays. Raises ValueError, naming the layer, where they do not fit."""
    weights = [as_array(f"weights[{i}]", weight, "inputs, outputs") for i, weight in enumerate(weights)]
    weights = [weight.astype(np.float64) for weight in weights]  # the size of int8's -128 is not an int8
    if not weights:
        raise ValueError("weights is empty: give one array [inputs, outputs] per layer")
    for i, (weight, following) in enumerate(zip(weights, weights[1:], strict=False)):
        outputs, inputs = weight.shape[1], following.shape[0]
        if outputs != inputs:
            raise ValueError(f"weights[{i}] has {outputs} outputs but weights[{i + 1}] has {inputs} inputs")
    sizes = [weights[0].shape[0], *(weight.shape[1] for weight in weights)]
    biases = None if biases is None else vectors("biases", biases, sizes[1:])
    activations = None if activations is None else vectors("activations", activations, sizes)
    if labels is not None and len(labels) != sizes[-1]:
        raise ValueError(f"labels must name the {sizes[-1]} outputs, got {len(labels)}")
    everything = {"weights": weights, "biases": biases or [], "activations": activations or []}
    for name, arrays in everything.items():
        for i, array in enumerate(arrays):
            if not np.isfinite(array).all():
                raise ValueError(f"{name}[{i}] has {np.sum(~np.isfinite(array))} values that are not finite")
    return weights, biases, activations


def vectors(name: str, arrays, sizes: list[int]) -> list[np.ndarray]:
    """The arrays, checked to be one [size] for each of the sizes."""
    if len(arrays) != len(sizes):
        raise ValueError(f"{name} must be {len(sizes)} arrays, of sizes {sizes}, got {len(arrays)}")
    arrays = [as_array(f"{name}[{i}]", array, "neurons") for i, array in enumerate(arrays)]
    for i, (array, size) in enumerate(zip(arrays, sizes, strict=True)):
        if len(array) != size:
            raise ValueError(f"{name}[{i}] must have {size} values, as the weights say, got {len(array)}")
    return [array.astype(np.float64) for array in arrays]


def chosen(size: int, most: int) -> np.ndarray:
    """Which neurons of a layer are drawn: all of them, or the first and the last, `most` together."""
    if size <= most:
        return np.arange(size)
    return np.r_[: most - most // 2, size - most // 2 : size]


def places_down(drawn: int, size: int) -> np.ndarray:
    """Places of the drawn neurons about the middle, from the top down; one is left free if not all are."""
    places = np.arange(drawn) + (np.arange(drawn) >= drawn - drawn // 2) * (drawn < size)
    return places.max() / 2 - places


def sign_colors(values: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """values[n], opacity[n] -> colours[n, 4]"""
    colors = to_rgba_array(np.where(values < 0, NEGATIVE, POSITIVE).tolist())
    colors[:, 3] = opacity
    return colors
