import numpy as np
import pytest

from jann.plots import scatter

POINTS, LABELS = np.random.default_rng(0).normal(size=(12, 2)), np.tile([0, 2, 1], 4)


def test_each_class_is_drawn_where_its_points_are():
    axes = scatter(POINTS, LABELS, ["a", "b", "c"], "first", "second").axes[0]
    for k, drawn in enumerate(axes.collections):
        np.testing.assert_allclose(drawn.get_offsets(), POINTS[LABELS == k])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("first", "second")


def test_classes_can_be_told_apart_beyond_the_palette():
    axes = scatter(np.zeros((20, 2)), np.arange(20)).axes[0]
    looks = {(tuple(drawn.get_facecolor()[0]), drawn.get_paths()[0].vertices.tobytes()) for drawn in axes.collections}
    assert len(looks) == 20
    shapes = [drawn.get_paths()[0].vertices.tobytes() for drawn in axes.collections]
    assert all(a != b for a, b in zip(shapes, shapes[1:], strict=False)), "neighbours differ in their markers too"
    assert axes.collections[0].get_sizes() >= 16


def test_the_legend_of_a_hundred_classes_is_whole_and_says_that_looks_recur():
    figure = scatter(np.random.default_rng(0).random((100, 2)), np.arange(100), [f"_class {k}" for k in range(100)])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    legend = axes.get_legend()
    box = legend.get_window_extent()
    assert box.y0 >= 0 and box.x1 <= figure.bbox.x1 and axes.bbox.width > 0.3 * figure.bbox.width
    assert len(legend.get_texts()) == 100 and legend.get_title().get_text() == "looks recur after 49"


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((3, 4)), np.zeros(3), r"points must be \[n, 2\], got shape \[3, 4\]"),
        (np.zeros((3, 2)), np.zeros(2), "equally many, got 2 and 3"),
        (np.zeros((3, 2)), np.array([0, 1, 5]), "from 0 to 1, but|from 0 to 1, got 5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(points, labels, message):
    with pytest.raises(ValueError, match=message):
        scatter(points, labels, ["a", "b"])


def test_no_names_at_all_are_told():
    with pytest.raises(ValueError, match="classes is empty"):
        scatter(POINTS, LABELS, [])
