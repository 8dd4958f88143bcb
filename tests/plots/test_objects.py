import numpy as np
import pytest
from matplotlib.patches import Rectangle

from jann.plots import boxes
from jann.plots.style import COLORS


def drawn(axes):
    return [(*each.get_xy(), each.get_width(), each.get_height()) for each in axes.patches if type(each) is Rectangle]


def test_boxes_are_where_they_are_and_named():
    images, box = np.zeros((2, 20, 30, 1), np.uint8), np.array([[2.0, 3.0, 10.0, 8.0]])
    figure = boxes(images, [box, box + 1], [[0], [1]], ["cat", "$dog$"], [box, box[:0]], captions=["a", "b"])
    figure.draw_without_rendering()
    first, second = figure.axes
    assert drawn(first) == 3 * [(2.5, 1.5, 5.0, 8.0)] and drawn(second) == [(3.5, 2.5, 5.0, 8.0)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "$dog$", "true"]
    assert first.get_title("left") == "a" and not first.texts
    many = [f"class {k}" for k in range(len(COLORS) + 1)]
    figure = boxes(images, [box, box], [[7], [0]], many)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["class 7", "class 0"] and not figure.legends


def test_what_it_refuses():
    with pytest.raises(ValueError, match="found 1 and labels 2 for 2 images: as many are wanted"):
        boxes(np.zeros((2, 4, 4, 1)), [np.zeros((0, 4))], [[], []], ["a"])
