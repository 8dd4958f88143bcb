import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jann.analysis import interval
from jann.plots import curves


@pytest.fixture
def losses():
    return np.random.default_rng(0).uniform(0.5, 2, (5, 20))


def test_line_is_the_mean_and_band_the_interval(losses):
    x = np.arange(20) * 50.0
    (axes,) = curves({"adam": losses}, x, interval=0.9).axes
    mean, low, high = interval(losses, level=0.9)
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), losses.mean(0), rtol=1e-12)
    corners = axes.collections[0].get_paths()[0].vertices
    for at, a, b in zip(x, low, high, strict=True):
        here = corners[corners[:, 0] == at, 1]
        np.testing.assert_allclose([here.min(), here.max()], [a, b], rtol=1e-12)


def test_one_run_has_no_band():
    (axes,) = curves({"flat": [1.0, 2.0, 4.0], "one seed": [[3.0, 2.0, 1.0]]}).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 2, 4], [3, 2, 1]]
    assert not axes.collections


def test_diverged_seed_leaves_a_gap_and_the_other_series_whole(losses):
    diverged = losses.copy()
    diverged[2, 12:] = np.nan
    diverged[3, 15:] = np.inf
    (axes,) = curves({"bad": diverged, "good": losses}).axes
    bad, good = axes.lines
    np.testing.assert_allclose(bad.get_ydata()[:12], losses.mean(0)[:12])
    assert np.isnan(bad.get_ydata()[12:]).all()
    np.testing.assert_allclose(good.get_ydata(), losses.mean(0))
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["bad\n(2 of 5 seeds not finite)", "good"]
    assert axes.collections[0].get_paths()[0].vertices[:, 0].max() == 11
    assert np.isfinite(axes.get_ylim()).all()


def test_a_gap_in_all_seeds_is_no_divergence_and_a_lone_point_is_a_dot():
    values = np.array([[1.0, np.nan, 3.0, np.nan, 5.0, 6.0]] * 2)
    (axes,) = curves({"evaluated": values}).axes
    line, dots = axes.lines
    np.testing.assert_array_equal(dots.get_xdata(), [0, 2])
    np.testing.assert_array_equal(dots.get_ydata(), [1, 3])
    assert line.get_label() == "evaluated"


def test_every_series_is_in_the_legend_whatever_its_name_and_values():
    (axes,) = curves({"_hidden": np.ones((3, 4)), "lost": np.full((3, 4), np.nan)}).axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["_hidden", "lost\n(3 of 3 seeds not finite)"]


@pytest.mark.parametrize("x", [None, np.arange(1, 5), np.arange(1.0, 5.0)])
def test_whole_positions_have_whole_ticks(x):
    ticks = curves({"a": np.arange(4.0)}, x).axes[0].get_xticks()
    np.testing.assert_array_equal(ticks, ticks.round())


def test_logarithmic_axis_keeps_the_lines_in_view():
    wide = np.array([[0.1, 0.1, 0.0], [0.3, 0.9, 0.0]])  # two seeds: intervals far below zero
    (axes,) = curves({"wide": wide}, log_y=True).axes
    assert axes.get_yscale() == "log"
    assert 0.02 <= axes.get_ylim()[0] < 0.2
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.2, 0.5, np.nan])
    half = (1 - 1e-6) / 12.7062047  # of two seeds' distance from 1 that makes the interval begin at 1e-6
    (axes,) = curves({"barely positive": [[1 - half] * 2, [1 + half] * 2]}, log_y=True).axes
    assert axes.get_ylim()[0] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="positive"):
        curves({"negative": [-1.0, -2.0]}, log_y=True)


def test_ten_series_look_different():
    (axes,) = curves({f"width {i}": [i, i + 1.0] for i in range(10)}).axes
    looks = {(to_rgba(line.get_color()), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 10


def test_legend_stays_inside_the_figure():
    figure = curves({"a very long name of a series, learning rate 0.001, width 512": [1.0, 2.0]})
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend().get_window_extent()
    assert legend.x1 <= figure.bbox.x1 and legend.x0 >= figure.axes[0].bbox.x1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(series={}), "series is empty"),
        (
            dict(series={"a": np.zeros((2, 3, 4))}),
            r"series\['a'\] must be \[points\] or \[seeds, points\].*2, 3, 4",
        ),
        (dict(series={"a": np.zeros((2, 0))}), r"series\['a'\] is empty"),
        (dict(series={"a": ["x"]}), r"series\['a'\] must be real numbers"),
        (dict(series={"a": [[1, 2], [3]]}), r"series\['a'\] is not an array"),
        (dict(series={"a": [1, 2]}, x=[1, 2, 3]), r"series\['a'\] has 2 points but x has 3"),
        (dict(series={"a": [1, 2]}, interval=95), "between 0 and 1"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        curves(**arguments)


@pytest.mark.parametrize(("low", "high"), [(0.97, 1.9), (0.1003, 0.1148)])
def test_a_narrow_logarithmic_axis_has_numbers(low, high):
    axes = curves({"loss": np.linspace(high, low, 20)}, log_y=True).axes[0]
    bottom, top = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if bottom <= tick <= top]
    assert 3 <= len(ticks) <= 10


def test_a_lone_point_has_its_interval_as_a_bar():
    values = np.full((3, 5), np.nan)
    values[:, 2] = [1.0, 1.2, 1.3]
    _, low, high = interval(values[:, 2])
    bar = curves({"evaluated": values}).axes[0].collections[0]
    np.testing.assert_allclose(bar.get_segments(), [[[2, low], [2, high]]])
