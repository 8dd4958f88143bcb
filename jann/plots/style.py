"""The house style: colours that colour-blind readers can tell apart, quiet axes, text that fits."""

import io
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image

INK, FAINT, GRID = "#333333", "#777777", "#E4E4E4"
POSITIVE, NEGATIVE, HIGHLIGHT = "#2369A6", "#C44E2B", "#C44E2B"
# Okabe and Ito's palette without its yellow (too pale for a line), darkest contrasts first.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# White is zero in the first two maps, and pink is not a number.
NOT_FINITE = "#E0218A"
SIGNED, AMOUNT, GREYS = (
    LinearSegmentedColormap.from_list(name, colors).with_extremes(bad=NOT_FINITE)
    for name, colors in (
        ("jann_signed", [NEGATIVE, "white", POSITIVE]),
        ("jann_amount", ["white", "#8FBADD", POSITIVE, "#0D2F52"]),
        ("jann_greys", ["black", "white"]),
    )
)

FONT = "DejaVu Sans"  # comes with matplotlib
SMALL, NORMAL, LARGE = 7, 8, 10  # points
LEGEND_WIDTH, LEGEND_ROWS = 3.0, 30  # of a legend's column: inches of its names, and lines
DRAWN = (
    "axes.", "figure.", "font.", "grid.", "image.", "legend.", "lines.", "mathtext.", "patch.", "savefig.facecolor",
    "text.", "xtick.", "ytick.",
)  # fmt: skip
HOUSE = (
    {name: value for name, value in rcParamsDefault.items() if name.startswith(DRAWN)}
    | {
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.labelsize": NORMAL + 1,
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": LARGE,
        "figure.dpi": 150,
        "figure.constrained_layout.h_pad": 0.08,
        "figure.constrained_layout.w_pad": 0.08,
        "font.family": FONT,
        "font.size": NORMAL,
        "legend.fontsize": NORMAL,
        "legend.frameon": False,
        "legend.handlelength": 2.4,
        "lines.linewidth": 1.6,
        "text.color": INK,
        "text.parse_math": False,  # names of data may hold any text: only charts (`describe`) have formulas
    }
)  # fmt: skip

# Decorates each plotting function: matplotlib's defaults, whatever the reader has set, and the house's own
# on top. The reader's settings are as before afterwards.
house_style = rc_context(HOUSE)


class Picture(Figure):
    """A Figure that notebooks show also where pyplot was never imported, and that needs no closing."""

    savefig = house_style(Figure.savefig)

    @rc_context(HOUSE | {"text.parse_math": True})  # most ticks are made when first drawn
    def draw(self, renderer) -> None:
        for axis in (axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)):
            if axis.get_scale() == "log":  # powers of ten are mathematics
                for label in axis.get_ticklabels(which="both"):
                    label.set_parse_math(True)
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        drawn, file = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=110)
        Image.open(drawn).convert("RGB").quantize(256).save(file, format="png", optimize=True)  # a tenth of the bytes
        return file.getvalue()


def chart(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of width x height inches with one set of axes, laid out so that nothing is cut off."""
    figure = Picture((width, height), layout="constrained")
    return figure, quiet(figure.add_subplot())


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of width x height inches to draw on freely: one set of frameless axes over it, in inches."""
    figure = Picture((width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def quiet(axes: Axes) -> Axes:
    """The same axes with a light grid and small ticks."""
    axes.tick_params(which="both", colors=FAINT, labelcolor=INK, labelsize=NORMAL, width=0.8)
    axes.tick_params(length=3)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def class_look(k: int) -> dict[str, str]:
    """Colour and marker of class k: neighbours differ in both, and so do classes that share a colour in markers."""
    return {"color": COLORS[k % len(COLORS)], "marker": MARKERS[(k + 3 * (k // len(COLORS))) % len(MARKERS)]}


def color_bar(
    figure: Figure, box: tuple[float, ...], color_map, limits: tuple[float, float], label: str, **options
) -> None:
    """Draw a colour bar in box (left, bottom, width, height, in inches)."""
    width, height = figure.get_size_inches()
    left, bottom, across, up = box
    axes = figure.add_axes((left / width, bottom / height, across / width, up / height))
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), color_map), cax=axes, **options)
    bar.outline.set_visible(False)
    formatter = bar.long_axis.get_major_formatter()
    formatter.format_ticks(bar.get_ticks())
    power = formatter.get_offset()  # such as 1e-7, for which there is no room above the bar
    bar.long_axis.get_offset_text().set_visible(False)
    bar.set_label(f"{label} (× {power})" if power else label, size=NORMAL)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=SMALL, width=0.6, length=2)


def describe(axes: Axes, title: str | None, xlabel: str | None, ylabel: str | None) -> None:
    """Write title and labels of a chart, broken to fit it; they may hold formulas."""
    width, height = axes.figure.get_size_inches()
    axes.set_title(written(title, width - 0.9, LARGE), parse_math=True)
    axes.set_xlabel(written(xlabel, width - 0.9, NORMAL + 1), parse_math=True)
    axes.set_ylabel(written(ylabel, height - 0.7, NORMAL + 1), parse_math=True)


def legend_beside(axes: Axes, title: str | None = None, **options) -> None:
    """A legend right of the axes, where it covers no data; its names may hold formulas."""
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0, "alignment": "left"}
    legend = axes.legend(title=title, title_fontsize=NORMAL, **place, **options)
    legend.get_title().set_color(FAINT)
    for text in legend.get_texts():
        text.set_parse_math(True)


def grown_legend(axes: Axes, handles: Sequence[Artist], looks: int, title: str | None = None, **options) -> None:
    """`legend_beside` of these handles, by their labels, for which the figure grows.

    Of more of them than there are `looks` it says so.
    """
    names = [written(handle.get_label(), LEGEND_WIDTH) for handle in handles]
    lines = [1 + name.count("\n") for name in names]
    columns = -(-sum(lines) // LEGEND_ROWS)
    rows = max(sum(column) for column in np.array_split(lines, columns))
    if len(names) > looks:
        title = "\n".join(filter(None, [title, f"looks recur after {looks}"]))
    width, height = axes.figure.get_size_inches()
    beside = max(columns * (0.6 + max(map(text_width, names))), text_width(title or ""))
    axes.figure.set_size_inches(width + beside, max(height, 0.8 + 0.19 * rows))
    legend_beside(axes, title, handles=handles, labels=names, ncols=columns, **options)


def text_width(text: str, size: float = NORMAL) -> float:
    """How wide the longest line of the text is, in inches."""
    font = FontProperties(family=FONT, size=size)
    widths = [text_to_path.get_text_width_height_descent(line, font, False)[0] for line in text.split("\n")]
    return max(widths) / 72


def wrapped(text: str, width: float, size: float = NORMAL) -> list[str]:
    """The lines of the text, broken to fit a width in inches; within words only where one is too wide."""
    lines = []
    for part in text.split("\n"):
        # Tries ever fewer characters a line, from as many as would fit if all were as narrow as an "i".
        characters = max(min(len(part), int(72 * width / (0.25 * size))), 1)
        while characters > 1 and text_width("\n".join(textwrap.wrap(part, characters)), size) > width:
            characters -= 1
        lines += textwrap.wrap(part, characters) or [""]
    return lines


def broken(text: str | None, width: float, size: float = NORMAL) -> str:
    """The text with line breaks that make it fit a width in inches; of None nothing."""
    # Letters are drawn at whole pixels, which makes a line some per cent longer.
    return "\n".join(wrapped("" if text is None else str(text), 0.96 * width, size))


def written(text: str | None, width: float, size: float = NORMAL) -> str:
    """As `broken`, but a formula ("$\\lambda$", between dollar signs as matplotlib has it) stays as it is."""
    return text if text is not None and is_math_text(text) else broken(text, width, size)


def lines_height(texts: Iterable[str], size: float) -> float:
    """How high the text of most lines is, in inches; nothing if all are empty."""
    return 1.25 * size / 72 * max(text.count("\n") + bool(text) for text in texts)
