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
