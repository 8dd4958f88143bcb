import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb

from jann.plots import network
from jann.plots.style import NEGATIVE, POSITIVE, SIGNED


def parts(figure):
    axes = figure.axes[0]
    (lines,) = (each for each in axes.collections if isinstance(each, LineCollection))
    circles = [
        each for each in axes.collections if isinstance(each, PathCollection) and each.get_sizes()[0] > 50
    ]
    return axes, lines, circles


def drawn_weights(lines, circles):
    """(layer, from, to) -> colour and width of each line, found by where it starts and ends."""
    places = [circle.get_offsets() for circle in circles]
    found = {}
    for (start, end), color, width in zip(
        lines.get_segments(), lines.get_colors(), lines.get_linewidths(), strict=True
    ):
        layer = next(i for i, place in enumerate(places) if np.isclose(place[0, 0], start[0]))
        near = [
            int(np.abs(places[layer + i] - point).sum(1).argmin()) for i, point in enumerate((start, end))
        ]
        np.testing.assert_allclose([places[layer][near[0]], places[layer + 1][near[1]]], [start, end])
        found[layer, near[0], near[1]] = color, width
    return found


def test_each_weight_is_a_line_coloured_by_its_sign():
    random = np.random.default_rng(0)
    weights = [random.normal(size=(3, 4)), random.normal(size=(4, 2))]
    _, lines, circles = parts(network(weights))
    found = drawn_weights(lines, circles)
    assert len(found) == 3 * 4 + 4 * 2
    for (layer, start, end), (color, _) in found.items():
        sign = NEGATIVE if weights[layer][start, end] < 0 else POSITIVE
        np.testing.assert_allclose(color[:3], to_rgb(sign))


def test_stronger_weights_are_wider_more_opaque_and_on_top():
    _, lines, circles = parts(network([np.array([[0.0, -1.0], [4.0, 2.0]])]))
    found = drawn_weights(lines, circles)
    by_strength = [found[0, 0, 0], found[0, 0, 1], found[0, 1, 1], found[0, 1, 0]]
    widths, opacities = [width for _, width in by_strength], [color[3] for color, _ in by_strength]
    assert widths == sorted(widths) == list(lines.get_linewidths())
    assert opacities == sorted(opacities) and opacities[0] == 0 and opacities[-1] == 1


def test_large_layers_show_their_ends_and_their_size():
    weights = [np.zeros((64, 128)), np.zeros((128, 10))]
    weights[0][63, 127] = 5.0
    weights[1][127, 9] = -5.0
    axes, lines, circles = parts(network(weights, labels=list("abcdefghij"), max_neurons=6))
    assert [len(circle.get_offsets()) for circle in circles] == [6, 6, 6]
    found = drawn_weights(lines, circles)
    assert len(found) == 36 + 36
    assert {place for place, (color, _) in found.items() if color[3] == 1} == {(0, 5, 5), (1, 5, 5)}
    texts = [text.get_text() for text in axes.texts]
    assert texts[1:6:2] == ["64, 6 shown", "128, 6 shown", "10, 6 shown"]
    assert texts[6:] == list("abchij")  # the labels of the neurons that are shown


def test_filling_is_the_activation_and_outline_the_bias():
    activations = [np.array([0.0, 8.0]), np.array([-2.0, 1.0, 0.0])]
    bias = np.array([0.5, -1.0, 0.0])
    _, _, (inputs, outputs) = parts(network([np.ones((2, 3))], [bias], activations))
    np.testing.assert_allclose(inputs.get_facecolors(), SIGNED([0.5, 1.0]))
    np.testing.assert_allclose(outputs.get_facecolors(), SIGNED([0.0, 0.75, 0.5]))
    edges = outputs.get_edgecolors()
    np.testing.assert_allclose(edges[:2, :3], [to_rgb(POSITIVE), to_rgb(NEGATIVE)])
    np.testing.assert_allclose(outputs.get_linewidths(), [1.6, 2.4, 0.8])


def test_int8_weights_keep_their_size():
    axes = network([np.array([[-128, 64]], np.int8)]).axes
    assert axes[1].get_ylim() == (-128, 128)  # the colour bar


@pytest.mark.parametrize("neurons", [1, 40])
def test_nothing_is_cut_off(neurons):
    weights = [np.ones((neurons, 3)), np.ones((3, 2))]
    activations = [np.ones(neurons), np.ones(3), np.ones(2)]
    figure = network(weights, [np.ones(3), np.ones(2)], activations, ["a rather long label of a class", "b"])
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    boxes += [bar.get_tightbbox() for bar in figure.axes[1:]]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


GOOD = [np.ones((2, 3)), np.ones((3, 2))]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(weights=[]), "weights is empty"),
        (dict(weights=[np.ones(3)]), r"weights\[0\] must be \[inputs, outputs\], got shape \[3\]"),
        (
            dict(weights=[np.ones((2, 3)), np.ones((4, 2))]),
            r"weights\[0\] has 3 outputs but weights\[1\] has 4 inputs",
        ),
        (dict(weights=[np.array([[1.0, np.nan]])]), r"weights\[0\] has 1 values that are not finite"),
        (dict(weights=GOOD, biases=[np.ones(3)]), r"biases must be 2 arrays, of sizes \[3, 2\], got 1"),
        (dict(weights=GOOD, biases=[np.ones(3), np.ones(3)]), r"biases\[1\] must have 2 values"),
        (
            dict(weights=GOOD, activations=[np.ones(2), np.ones(4), np.ones(2)]),
            r"activations\[1\] must have 3 values",
        ),
        (
            dict(weights=GOOD, activations=[np.ones((1, 2)), np.ones(3), np.ones(2)]),
            r"activations\[0\] must be \[n",
        ),
        (dict(weights=GOOD, labels=["a"]), "labels must name the 2 outputs, got 1"),
        (dict(weights=GOOD, max_neurons=1), "max_neurons must be at least 2"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        network(**arguments)
