import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from PIL import Image

from jann import plots
from jann.plots.style import COLORS, text_width, wrapped

DRAWN = {
    "boxes": lambda: plots.boxes(np.zeros((1, 4, 4, 1)), [np.ones((1, 4))], [[0]], ["a"], [np.ones((1, 4))]),
    "curves": lambda: plots.curves({"a": [[1.0, 2.0], [2.0, 2.5]]}, ylabel="loss", title="Loss"),
    "confusion_matrix": lambda: plots.confusion_matrix([0, 1], [0, 1]),
    "motion": lambda: plots.motion(np.eye(2)[None] + np.ones((3, 1, 1)), ["a", "b", "c"], 2, title="d"),
    "network": lambda: plots.network([np.ones((2, 2))]),
    "images": lambda: plots.images(np.zeros((2, 4, 4)), ["a", "b"]),
    "filters": lambda: plots.filters(np.ones((3, 3, 1, 2))),
    "feature_maps": lambda: plots.feature_maps(np.ones((3, 3, 2))),
    "decision_boundary": lambda: plots.decision_boundary(lambda x: x, [[0.0, 1.0], [1.0, 0.0]], [1, 0], 20),
    "histogram": lambda: plots.histogram({"a": np.arange(4.0)}),
    "forecasts": lambda: plots.forecasts(np.ones((1, 4)), np.ones((1, 2)), np.ones((1, 2))),
    "importances": lambda: plots.importances({"past": {"hour": 0.3, "day": 0.7}}),
    "piano_rolls": lambda: plots.piano_rolls({"a": np.eye(88)[:4]}),
    "scatter": lambda: plots.scatter(np.eye(2), np.array([0, 1])),
    "spectrograms": lambda: plots.spectrograms({"a": np.ones((5, 3))}, 0.1),
}


@pytest.mark.parametrize("name", plots.__all__)
def test_figures_show_in_notebooks_save_and_leave_the_settings_alone(name, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = DRAWN[name]()
    assert dict(matplotlib.rcParams) == before
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png")
    shown, _ = DisplayFormatter().format(figure)
    for picture, dpi in ((io.BytesIO(shown["image/png"]), 110), (tmp_path / "figure.png", 150)):
        assert Image.open(picture).size == tuple(np.floor(figure.get_size_inches() * dpi + 1e-6).astype(int))


@pytest.mark.parametrize("name", plots.__all__)
def test_the_readers_settings_change_nothing(name):
    plain = DRAWN[name]()._repr_png_()
    loud = {"xtick.color": "red", "xtick.labelsize": 20, "axes.grid": True, "axes.facecolor": "black"}
    loud |= {"savefig.facecolor": "black", "grid.linestyle": ":"}
    with matplotlib.rc_context(loud | {"font.size": 20, "axes.titlecolor": "red", "lines.linewidth": 5}):
        changed = DRAWN[name]()
    pixels = [np.asarray(Image.open(io.BytesIO(each))) for each in (plain, changed._repr_png_())]
    np.testing.assert_array_equal(*pixels)


def test_charts_have_formulas_where_names_of_data_have_dollar_signs(tmp_path):
    formula = r"$\lambda = 0.1,\ " + 10 * r"\mathrm{long}\ " + "$"
    figure = plots.curves({formula: 10.0 ** -np.arange(6)}, title="costs $5", ylabel="$x$", log_y=True)
    figure.savefig(tmp_path / "figure.png")  # raises where matplotlib reads a formula that is none
    axes = figure.axes[0]
    charts = [axes._left_title, axes.yaxis.label, *axes.get_legend().get_texts()]
    assert all(text.get_parse_math() for text in charts) and charts[-1].get_text() == formula
    bars = plots.importances({"$a$": {"$\\alph$": 1.0}})
    bars.savefig(tmp_path / "figure.png")
    assert not any(text.get_parse_math() for text in (bars.axes[0]._left_title, *bars.axes[0].get_yticklabels()))
    powers = axes.get_yticklabels(which="both")
    assert any("10^{-3}" in label.get_text() for label in powers) and all(label.get_parse_math() for label in powers)


def test_jann_does_not_import_matplotlib_nor_its_plots_pyplot():
    code = """
import sys, jann
assert "matplotlib" not in sys.modules
from jann import plots
plots.curves({"a": [1.0, 2.0]}).savefig(sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, "/dev/null"], check=True)


def test_text_is_broken_to_its_width():
    lines = wrapped("true automobile, said truck with a probability of 0.97", 1.0, 7)
    assert " ".join(lines) == "true automobile, said truck with a probability of 0.97"
    assert len(lines) > 1 and max(text_width(line, 7) for line in lines) <= 1.0
    assert "".join(wrapped("averylongwordwithoutanyspaceinit", 0.5)) == "averylongwordwithoutanyspaceinit"
    assert wrapped("", 1.0) == [""]


def test_colours_are_apart_in_brightness_or_hue_without_red_or_without_green():
    """Any two house colours stay apart for readers without red or without green cones.

    Viénot, Brettel and Mollon, Digital video colourmaps for checking the legibility of displays, 1999.
    """
    srgb = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in COLORS])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for seen in (linear @ protan.T, linear @ deutan.T):
        seen = np.cbrt(np.clip(seen, 0, 1))
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(COLORS))
        assert distance.min() > 0.1
