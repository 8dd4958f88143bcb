"""Distributions of the arrays in a tree: parameters, gradients, activations."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from jann.plots.inputs import as_array, finite_range
from jann.plots.style import COLORS, FAINT, LARGE, NORMAL, SMALL, Picture, broken, house_style, lines_height, quiet

PANEL_WIDTH, PANEL_HEIGHT, LEFT, MARGIN = 1.8, 0.95, 0.5, 0.12  # inches


@house_style
def histogram(tree, bins: int = 50, columns: int = 4, title: str | None = None) -> Figure:
    """Draw how often each value occurs, on a logarithmic axis, in a panel for each array of a tree.

    Above a panel are the path, shape and standard deviation. Values that are not finite are left out and
    counted. Random keys and arrays without elements are skipped.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    leaves = [(path, leaf) for path, leaf in leaves if np.size(leaf) and not is_key(leaf)]
    if not leaves:
        raise ValueError("tree has no arrays of numbers")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    arrays = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
        arrays[name] = as_array(name, leaf)
    names = sorted(arrays, key=by_number)
    columns, rows = min(columns, len(names)), -(-len(names) // columns)
    heads = {name: broken(name.replace("/", " / "), PANEL_WIDTH) for name in names}
    above = 0.3 + lines_height(heads.values(), NORMAL)
    pitch = PANEL_HEIGHT + above + 0.25
    width = max(MARGIN + columns * (PANEL_WIDTH + LEFT) + 0.1, 2.6)
    title = broken(title, width - 2 * MARGIN, LARGE)
    over = lines_height([title], LARGE) + 0.08 * bool(title)
    height = 2 * MARGIN + over + rows * pitch
    figure = Picture((width, height))
    if title:
        figure.text(MARGIN / width, 1 - MARGIN / height, title, va="top", size=LARGE)
    for index, name in enumerate(names):
        row, column = divmod(index, columns)
        left = MARGIN + LEFT + column * (PANEL_WIDTH + LEFT)
        bottom = height - MARGIN - over - row * pitch - above - PANEL_HEIGHT
        box = (left / width, bottom / height, PANEL_WIDTH / width, PANEL_HEIGHT / height)
        axes = quiet(figure.add_axes(box))
        values = arrays[name].ravel()
        finite = values[np.isfinite(values)].astype(np.float64)
        low, high = finite_range(finite)
        alike = high - low <= 1e-6 * max(abs(low), abs(high))  # no ticks could tell them apart
        room = max(0.5, 1e-5 * abs(low)) if alike else 0.0
        counts, edges = np.histogram(finite, bins, (low - room, high + room))
        axes.stairs(counts, edges, fill=True, color=COLORS[0])
        if finite.size:
            axes.set_yscale("log")
            axes.set_ylim(0.7, max(2 * counts.max(), 15))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(FixedLocator([low][: finite.size]) if alike else MaxNLocator(3))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.8g}"))
        if low < 0 < high:
            axes.axvline(0, color=FAINT, linewidth=0.6, zorder=0)
        said = f"{list(arrays[name].shape)}"
        said += f"  std {(finite - low).std():.2g}" if finite.size else ""
        said += f"  {values.size - finite.size} not finite" if finite.size < values.size else ""
        axes.set_title(heads[name], size=NORMAL, pad=13)
        axes.text(0, 1.04, said, transform=axes.transAxes, size=SMALL, color=FAINT)
    return figure


def is_key(leaf) -> bool:
    """Whether the leaf is an array of `jax.random` keys, which are no numbers."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def by_number(name: str) -> list:
    """A sort key that puts layer_2 before layer_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
