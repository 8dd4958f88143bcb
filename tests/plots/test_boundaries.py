import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.contour import ContourSet
from scipy.special import expit, softmax

from jann.plots import decision_boundary
from jann.plots.style import COLORS

POINTS = np.random.default_rng(0).uniform(-1, 1, (60, 2))
NORMAL, OFFSET = np.array([1.0, 2.0]), 0.25
LABELS = (POINTS @ NORMAL > OFFSET).astype(int)


def boundary(figure) -> np.ndarray:
    contours = [each for each in figure.axes[0].collections if isinstance(each, ContourSet)]
    return np.concatenate([path.vertices for each in contours for path in each.get_paths()])


def logits(x):
    score = 5 * (x @ NORMAL - OFFSET)
    return np.stack([-score, score], 1)


@pytest.mark.parametrize(
    "predict, tolerance",
    [
        (logits, 1e-5),
        (lambda x: softmax(logits(x), 1), 1e-3),
        (lambda x: expit(2 * logits(x)[:, 1]), 1e-3),
        (lambda x: (logits(x)[:, 1] > 0).astype(int), 0.03),  # within a cell of the grid
        (lambda x: logits(x)[:, 1] > 0, 0.03),
    ],
)
def test_boundary_of_a_linear_classifier_is_its_line(predict, tolerance):
    line = boundary(decision_boundary(predict, POINTS, LABELS))
    assert np.abs(line @ NORMAL - OFFSET).max() < tolerance
    assert np.ptp(line[:, 0]) > 1.9  # across the whole plane


def test_three_classes_change_at_the_largest_score():
    centres = np.array([[0.0, 0.8], [-0.7, -0.5], [0.7, -0.5]])

    def predict(x):
        return -((x[:, None] - centres) ** 2).sum(2)

    line = boundary(decision_boundary(predict, POINTS, predict(POINTS).argmax(1)))
    second, first = np.sort(predict(line), 1)[:, 1:].T
    assert (first - second).max() < 0.05
    # the perpendicular bisector of the two lower centres is there, below the meeting point
    assert np.abs(line[line[:, 1] < -0.6][:, 0]).max() < 1e-3


def test_shading_is_soft_and_upright():
    figure = decision_boundary(lambda x: expit(x[:, 1] * 20), POINTS, LABELS, resolution=50)
    picture = np.asarray(figure.axes[0].images[0].get_array())
    assert figure.axes[0].images[0].origin == "lower"
    blend = 1 - 0.4 * (1 - np.array([to_rgb(COLORS[0]), to_rgb(COLORS[1])]))
    np.testing.assert_allclose(picture[0], np.tile(blend[0], (50, 1)), atol=1e-3)
    np.testing.assert_allclose(picture[-1], np.tile(blend[1], (50, 1)), atol=1e-3)
    figure = decision_boundary(lambda x: np.full(len(x), 0.5), POINTS, LABELS, resolution=9)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), np.tile(blend.mean(0), (9, 9, 1)))


def test_points_are_drawn_by_class_with_shapes_of_their_own():
    axes = decision_boundary(logits, POINTS, LABELS, resolution=20).axes[0]
    groups = [each for each in axes.collections if not isinstance(each, ContourSet)]
    for k, group in enumerate(groups):
        np.testing.assert_array_equal(group.get_offsets(), POINTS[LABELS == k])
    first, second = (group.get_paths()[0].vertices for group in groups)
    assert first.shape != second.shape


def test_many_classes_look_different_and_their_legend_is_whole():
    classes = np.arange(30)
    figure = decision_boundary(lambda x: np.arange(len(x)) % 30, np.random.default_rng(0).random((30, 2)), classes, 6)
    figure.draw_without_rendering()
    groups = [each for each in figure.axes[0].collections if not isinstance(each, ContourSet)]
    assert len({(tuple(each.get_facecolor()[0]), each.get_paths()[0].vertices.tobytes()) for each in groups}) == 30
    legend = figure.axes[0].get_legend().get_window_extent()
    assert legend.y0 >= 0 and legend.x1 <= figure.bbox.x1


def test_a_classifier_that_never_changes_its_mind_has_no_line():
    axes = decision_boundary(lambda x: np.zeros(len(x), int), POINTS, LABELS).axes[0]
    assert not any(isinstance(each, ContourSet) for each in axes.collections)


@pytest.mark.parametrize(
    "predict, points, labels, message",
    [
        (logits, np.zeros((4, 3)), np.zeros(4), r"points must be \[n, 2\], got shape \[4, 3\]"),
        (logits, np.zeros((0, 2)), np.zeros(0), "points is empty"),
        (logits, POINTS, LABELS[:5], "labels and points must be equally many, got 5 and 60"),
        (logits, POINTS, LABELS + 1, "labels go up to 2 but predict gives 2 classes"),
        (logits, POINTS, LABELS - 1, "labels must be from 0"),
        (logits, np.full((60, 2), np.nan), LABELS, "points has 120 values that are not finite"),
        (lambda x: logits(x)[:, 1], POINTS, LABELS, "probabilities of class 1.*sigmoid"),
        (lambda x: logits(x)[:, :1], POINTS, LABELS, r"predict must return .*got shape \[40000, 1\]"),
        (lambda x: logits(x)[:7], POINTS, LABELS, r"predict must return .*got shape \[7, 2\]"),
        (lambda x: logits(x) * np.nan, POINTS, LABELS, "80000 values that are not finite"),
    ],
)
def test_bad_input(predict, points, labels, message):
    with pytest.raises(ValueError, match=message):
        decision_boundary(predict, points, labels)
