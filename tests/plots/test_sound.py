import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jann.plots import piano_rolls, spectrograms
from jann.plots.style import NOT_FINITE


def test_spectrograms_share_one_scale_and_their_time():
    short, long = np.linspace(-3, 0, 20).reshape(4, 5), np.linspace(-1, 2, 50).reshape(10, 5)
    figure = spectrograms({"short": short, "long": long}, 0.01, hertz=np.arange(5) * 100)
    first, second, _ = figure.axes
    for axes, values in ((first, short), (second, long)):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), values.T)
        assert image.get_clim() == (-3, 2)
        assert image.get_extent() == [0, len(values) * 0.01, -0.5, 4.5]
    assert first.get_xlim() == second.get_xlim() == (0, 0.1)
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["0", "100", "200", "300", "400"]


def test_piano_rolls_show_the_octaves_that_sound():
    roll = np.zeros((10, 88))
    roll[:, 60 - 21] = 1  # middle C
    roll[3:, 77 - 21] = 0.5
    axes = piano_rolls({"$piece": roll}, seconds_per_step=0.5, given={"$piece": 4}).axes[0]
    assert axes.get_ylim() == (59.5, 84.5) and axes.get_xlim() == (0, 5)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["C4", "C5", "C6"]
    given, played = axes.images
    np.testing.assert_array_equal(np.concatenate([given.get_array(), played.get_array()], 1), roll.T)
    assert given.get_extent()[:2] == [0, 2] and played.get_extent()[:2] == [2, 5]
    assert given.get_extent()[2:] == [20.5, 108.5]
    assert given.get_cmap() != played.get_cmap()


@pytest.mark.parametrize("panels", [2, 3, 5])
def test_nothing_is_cut_off(panels):
    rolls = {f"a rather long title of the piece, who plays it and when: {i}": np.eye(88)[30:60] for i in range(panels)}
    for figure in (spectrograms(rolls, 0.01), piano_rolls(rolls)):
        figure.draw_without_rendering()
        titles = [axes._left_title.get_window_extent() for axes in figure.axes if axes.get_title("left")]
        assert not any(a.overlaps(b) for i, a in enumerate(titles) for b in titles[:i])
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: spectrograms({}, 0.01), "panels is empty"),
        (lambda: piano_rolls({}), "panels is empty"),
        (lambda: spectrograms({"a": np.zeros(3)}, 0.01), r"panels\['a'\] must be \[frames, bands\]"),
        (lambda: spectrograms({"a": np.zeros((3, 4)), "b": np.zeros((3, 5))}, 0.01), "as many bands, got 4, 5"),
        (lambda: spectrograms({"a": np.zeros((3, 4))}, 0.01, np.arange(3)), "hertz has 3 frequencies for 4 bands"),
        (lambda: piano_rolls({"a": np.zeros((3, 87))}), r"panels\['a'\] must have 88 keys, got shape \[3, 87\]"),
        (lambda: piano_rolls({"a": np.eye(88)}, given={"b": 3}), "given has 'b', which is no title of panels: 'a'"),
        (lambda: piano_rolls({"a": np.eye(88)}, given={"a": 300}), r"given\['a'\] must be from 0 to the 88 steps"),
    ],
)
def test_bad_input(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_keys_whose_values_are_not_finite_are_shown():
    roll = np.zeros((10, 88))
    roll[:, 60 - 21] = np.nan
    axes = piano_rolls({"a": roll}).axes[0]
    assert axes.get_ylim() == (59.5, 72.5)
    (image,) = axes.images
    np.testing.assert_allclose(image.cmap(image.get_array())[60 - 21, 0], to_rgba(NOT_FINITE), atol=0.01)
