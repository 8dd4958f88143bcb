"""Pictures of sound and music over time: spectrograms, piano rolls."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from jann.plots.inputs import as_array, finite_range
from jann.plots.style import (
    AMOUNT,
    COLORS,
    NORMAL,
    NOT_FINITE,
    SMALL,
    Picture,
    broken,
    house_style,
    lines_height,
    quiet,
)

KEYS, LOWEST = 88, 21  # of a piano, and the MIDI number of its first


@house_style
def spectrograms(
    panels: Mapping[str, np.ndarray],
    seconds_per_frame: float,
    hertz: np.ndarray | None = None,
    columns: int = 2,
    label: str = "log power",
) -> Figure:
    """Draw each spectrogram[frames, bands] of {title: array}, time to the right, all on one scale.

    hertz[bands] are the bands' frequencies, a few of which are written at the axes; without them bands are counted.
    """
    panels = checked(panels, "frames, bands")
    counts = {values.shape[1] for values in panels.values()}
    if len(counts) > 1:
        raise ValueError(f"panels must all have as many bands, got {', '.join(map(str, sorted(counts)))}")
    (bands,) = counts
    if hertz is not None and len(hertz) != bands:
        raise ValueError(f"hertz has {len(hertz)} frequencies for {bands} bands")
    low, high = finite_range(np.concatenate([values.ravel() for values in panels.values()]))
    longest = max(map(len, panels.values())) * seconds_per_frame

    columns = max(1, min(columns, len(panels)))
    rows = -(-len(panels) // columns)
    heads = [broken(name, 2.5) for name in panels]
    height = 0.3 + rows * (1.4 + lines_height(heads, NORMAL))
    figure = Picture((0.8 + 2.9 * columns, height), layout="constrained")
    places = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in places.ravel()[len(panels) :]:
        axes.set_axis_off()
    for head, values, axes in zip(heads, panels.values(), places.ravel(), strict=False):
        extent = (0, len(values) * seconds_per_frame, -0.5, bands - 0.5)
        drawn = quiet(axes).imshow(
            values.T, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap=AMOUNT
        )
        axes.grid(False)
        axes.set(xlim=(0, longest), ylim=(-0.5, bands - 0.5))
        axes.set_title(head, size=NORMAL)
        if hertz is not None:
            at = np.linspace(0, bands - 1, 5).round().astype(int)
            axes.set_yticks(at, [f"{hertz[i]:.0f}" for i in at])
    figure.supxlabel("seconds", size=NORMAL + 1)
    figure.supylabel("band" if hertz is None else "hertz", size=NORMAL + 1)
    bar = figure.colorbar(drawn, ax=places, pad=0.01, aspect=15 * rows)
    bar.outline.set_visible(False)
    bar.set_label(broken(label, 1.2 * rows), size=NORMAL)
    bar.ax.tick_params(labelsize=SMALL, length=2)
    return figure


@house_style
def piano_rolls(
    panels: Mapping[str, np.ndarray], seconds_per_step: float = 1.0, given: Mapping[str, int] | None = None
) -> Figure:
    """Draw each roll[time, 88] of {title: array}, time to the right and keys upward, with a line at each octave's C.

    Values from 0 to 1 are drawn as shades, so they may be probabilities. `given` says for a title how many steps at the
    start, such as a prompt, get another colour. Octaves in which nothing sounds are left out at both ends. Values that
    are not finite are pink.
    """
    panels = checked(panels, "time, keys")
    for name, values in panels.items():
        if values.shape[1] != KEYS:
            raise ValueError(f"panels[{name!r}] must have {KEYS} keys, got shape {list(values.shape)}")
    given = given or {}
    for name, steps in given.items():
        if name not in panels:
            raise ValueError(f"given has {name!r}, which is no title of panels: {', '.join(map(repr, panels))}")
        if not 0 <= steps <= len(panels[name]):
            raise ValueError(f"given[{name!r}] must be from 0 to the {len(panels[name])} steps of its roll")
    silent = np.all([(values <= 0.05).all(0) for values in panels.values()], 0)
    sounding = LOWEST + np.flatnonzero(~silent)
    low, high = (sounding.min(), sounding.max()) if sounding.size else (60, 71)
    low, high = 12 * (low // 12), 12 * (high // 12 + 1)

    heads = [broken(name, 6.6) for name in panels]
    panel_height = 0.3 + lines_height(heads, NORMAL) + 0.03 * (high - low)
    figure = Picture((7.4, 0.3 + panel_height * len(panels)), layout="constrained")
    places = figure.subplots(len(panels), sharex=True, sharey=True, squeeze=False).ravel()
    for (name, values), head, axes in zip(panels.items(), heads, places, strict=True):
        cut = given.get(name, 0)
        shades = (clear_to(COLORS[1]), 0, cut), (clear_to(COLORS[0]), cut, len(values))
        for color_map, start, end in shades:
            if end > start:
                extent = (start * seconds_per_step, end * seconds_per_step, LOWEST - 0.5, LOWEST + KEYS - 0.5)
                axes.imshow(
                    values[start:end].T, origin="lower", aspect="auto", extent=extent, vmin=0, vmax=1, cmap=color_map,
                    interpolation="nearest", zorder=2,
                )  # fmt: skip
        octaves = np.arange(low, high + 1, 12)
        quiet(axes).set_yticks(octaves, [f"C{octave // 12 - 1}" for octave in octaves])
        axes.grid(axis="x", visible=False)
        axes.set(xlim=(0, max(map(len, panels.values())) * seconds_per_step), ylim=(low - 0.5, high + 0.5))
        axes.set_title(head, size=NORMAL)
    places[-1].set_xlabel("seconds")
    return figure


def clear_to(color: str) -> LinearSegmentedColormap:
    """From nothing, through which the grid is seen, to the colour."""
    return LinearSegmentedColormap.from_list(color, [(1, 1, 1, 0), color]).with_extremes(bad=NOT_FINITE)


def checked(panels: Mapping[str, np.ndarray], shape: str) -> dict[str, np.ndarray]:
    """The panels as arrays of two axes; ValueError for others, or none."""
    if not panels:
        raise ValueError(f"panels is empty: give a dict of title: array[{shape}]")
    return {name: as_array(f"panels[{name!r}]", values, shape) for name, values in panels.items()}
