import numpy as np
import pytest

from jann.plots import forecasts, importances


@pytest.fixture
def drawn():
    random = np.random.default_rng(0)
    history, truth = random.normal(size=(3, 8)), random.normal(size=(3, 4))
    return history, truth, truth[..., None] + np.array([1.0, -1.0, 0.0])


def test_lines_and_bands_are_the_values_whatever_the_order_of_quantiles(drawn):
    history, truth, predicted = drawn
    figure = forecasts(history, truth, predicted, names=["a", "b", "c"], quantiles=(0.9, 0.1, 0.5))
    assert [axes.get_title("left") for axes in figure.axes] == ["a", "b", "c"]
    for i, axes in enumerate(figure.axes):
        past, true, median, _ = axes.lines
        np.testing.assert_array_equal(past.get_xdata(), np.arange(-7, 1))
        np.testing.assert_array_equal(past.get_ydata(), history[i])
        np.testing.assert_array_equal(true.get_ydata(), truth[i])
        np.testing.assert_array_equal(median.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_allclose(median.get_ydata(), truth[i])
        corners = axes.collections[0].get_paths()[0].vertices
        for at in range(4):
            here = corners[corners[:, 0] == at + 1, 1]
            np.testing.assert_allclose([here.min(), here.max()], truth[i, at] + [-1, 1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "history", "0.1 to 0.9 quantile", "truth", "median",
    ]  # fmt: skip


@pytest.mark.parametrize("panels", [1, 3])
def test_the_legend_is_whole_and_alone(drawn, panels):
    figure = forecasts(*(array[:panels] for array in drawn), quantiles=(0.9, 0.1, 0.5))
    figure.draw_without_rendering()
    legend, page = figure.legends[0].get_window_extent(), figure.bbox
    assert page.x0 <= legend.x0 and legend.x1 <= page.x1 and page.y0 <= legend.y0
    assert all(axes.get_tightbbox().y0 >= legend.y1 for axes in figure.axes)
    assert figure.axes[-1].get_xlabel() == "steps ahead"


def test_a_point_forecast_has_no_band(drawn):
    history, truth, predicted = drawn
    figure = forecasts(history, truth, predicted[..., 2])
    assert not figure.axes[0].collections
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["history", "truth", "forecast"]


def test_one_step_ahead_is_dots_and_a_bar(drawn):
    history, truth, predicted = (array[:1] for array in drawn)
    axes = forecasts(history, truth[:, :1], predicted[:, :1], quantiles=(0.9, 0.1, 0.5)).axes[0]
    _, true, median, _ = axes.lines
    assert true.get_marker() == median.get_marker() == "o"
    np.testing.assert_allclose(axes.collections[0].get_segments(), [[[1, truth[0, 0] - 1], [1, truth[0, 0] + 1]]])


def test_long_names_are_broken_and_overlap_nothing(drawn):
    names = ["a rather long name of what is forecast here, in units of its own", "averylongword" * 9, "c"]
    figure = forecasts(*drawn, names, quantiles=(0.9, 0.1, 0.5), title="A title wider than its panels " * 6)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [figure.legends[0].get_window_extent()]
    boxes.append(figure._suptitle.get_window_extent())
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(0 <= box.x0 and 0 <= box.y0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_history_without_a_forecast_is_refused(drawn):
    history, truth, predicted = drawn
    with pytest.raises(ValueError, match=r"truth \[3, 4\] and predicted \[3, 4, 3\] must agree .* the 2 quantiles"):
        forecasts(history, truth, predicted, quantiles=(0.1, 0.9))
    with pytest.raises(ValueError, match="must agree"):
        forecasts(history[:2], truth, predicted[..., 0])


def test_importances_are_bars_the_largest_on_top():
    figure = importances({"past": {"hour": 0.2, "value": 0.7, "weekday": 0.1}, "future": {"hour": 1.0}})
    past, future = figure.axes
    assert [bar.get_width() for bar in past.patches] == [0.1, 0.2, 0.7]
    assert [label.get_text() for label in past.get_yticklabels()] == ["weekday", "hour", "value"]
    assert [bar.get_width() for bar in future.patches] == [1.0]
    with pytest.raises(ValueError, match="variables in each group"):
        importances({"past": {}})


def test_only_a_middle_quantile_is_a_line_and_is_named_by_its_level(drawn):
    history, truth, predicted = drawn
    for quantiles, lines, label in (((0.1, 0.9), 3, None), ((0.9,), 4, "0.9 quantile"), ((0.1, 0.5, 0.9), 4, "median")):
        figure = forecasts(history, truth, predicted[..., : len(quantiles)], quantiles=quantiles)
        assert len(figure.axes[0].lines) == lines
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert label is None or label in texts
        assert ("median" in texts) == (0.5 in quantiles)
    with pytest.raises(ValueError, match="1 names for 3 panels"):
        forecasts(history, truth, predicted, names=["a"], quantiles=(0.1, 0.5, 0.9))


def test_importances_write_each_value_beside_its_name():
    values = importances({"g": {"a": -1e6, "b": 2e6, "lost": np.nan}}).axes[0]
    values.figure.draw_without_rendering()
    assert [label.get_text() for label in values.get_yticklabels()] == ["lost", "a", "b"]
    assert [text.get_text() for text in values.texts] == ["nan", "-1e+06", "2e+06"]
    assert all(values.bbox.x0 < text.get_window_extent().x0 for text in values.texts)
