import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.metrics import confusion_matrix as reference

from jann.plots import confusion_matrix


def written(axes) -> np.ndarray:
    counts = np.full(axes.images[0].get_array().shape, -1)
    for text in axes.texts:
        column, row = map(int, text.get_position())
        counts[row, column] = int(text.get_text())
    return counts


def test_counts_and_colours_equal_sklearn():
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 300)
    predictions = np.where(random.random(300) < 0.7, labels, random.integers(0, 5, 300))
    axes = confusion_matrix(labels, predictions).axes[0]
    np.testing.assert_array_equal(written(axes), reference(labels, predictions))
    shares = reference(labels, predictions, normalize="true")
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    right = int(accuracy_score(labels, predictions, normalize=False))
    assert axes.get_title(loc="left") == f"accuracy {right / 3:.1f} % ({right} of 300)"


def test_names_and_classes_that_do_not_occur():
    axes = confusion_matrix([0, 0, 2], [0, 2, 2], ["cat", "dog", "a much longer name"]).axes[0]
    np.testing.assert_array_equal(written(axes), [[1, 0, 1], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(axes.images[0].get_array()[1], 0)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["cat", "dog", "a much longer name"]


@pytest.mark.parametrize("name", ["7", "automobile", "a considerably longer name of a class"])
def test_nothing_is_cut_off(name):
    figure = confusion_matrix([0, 1], [1, 1], [name, "b"])
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_many_classes_are_shown_by_colour_only():
    axes = confusion_matrix(np.arange(100), np.arange(100)[::-1]).axes[0]
    assert not axes.texts
    np.testing.assert_array_equal(axes.images[0].get_array(), np.eye(100)[::-1])


@pytest.mark.parametrize(
    "labels, predictions, classes, message",
    [
        ([0, 1], [0], None, "labels and predictions must be equally many, got 2 and 1"),
        ([], [], None, "labels is empty"),
        ([[0, 1]], [0, 1], None, r"labels must be \[n\]"),
        ([0, 1], [0, 3], ["a", "b"], "predictions must be from 0 to 1, got 3"),
        ([0, -1], [0, 1], None, "labels must be from 0.*got -1"),
        ([0.5, 1], [0, 1], None, "labels must be class numbers.*0.5"),
        ([np.nan, 1], [0, 1], None, "labels must be class numbers.*nan"),
        (["cat"], ["dog"], None, "labels must be real numbers"),
    ],
)
def test_bad_input(labels, predictions, classes, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(labels, predictions, classes)
