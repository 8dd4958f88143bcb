"""Curves over the steps of runs, with intervals over seeds."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from jann.analysis import interval as mean_and_interval
from jann.plots.inputs import as_array
from jann.plots.style import COLORS, DASHES, chart, describe, grown_legend, house_style


@house_style
def curves(
    series: Mapping[str, np.ndarray],
    x: np.ndarray | None = None,
    ylabel: str | None = None,
    xlabel: str = "step",
    interval: float = 0.95,
    log_y: bool = False,
    title: str | None = None,
    log_x: bool = False,
) -> Figure:
    """Draw each series[seeds, points] as its mean over seeds, in a band that is its t interval.

    A series[points] is one run, drawn without a band; x[points] are the positions, by default 0, 1, ... A
    point where any seed is not finite is left out, and the legend counts such seeds; so is one that a
    logarithmic axis cannot show. With log_x, which is for few positions, each is labelled.
    """
    if not series:
        raise ValueError("series is empty: give a dict of name: array[seeds, points]")
    if not 0 < interval < 1:
        raise ValueError(f"interval must be between 0 and 1 (such as 0.95), got {interval}")
    series = {name: as_array(f"series[{name!r}]", y, "points", "seeds, points") for name, y in series.items()}
    positions = None if x is None else as_array("x", x, "points")
    for name, y in series.items():
        if positions is not None and len(positions) != y.shape[-1]:
            raise ValueError(f"series[{name!r}] has {y.shape[-1]} points but x has {len(positions)}")

    figure, axes = chart(5.2, 3.4)
    lowest, lines = np.inf, []
    for index, (name, y) in enumerate(series.items()):
        with np.errstate(all="ignore"):  # a diverged seed
            mean, low, high = mean_and_interval(np.atleast_2d(y), axis=0, level=interval)
            shown = np.isfinite(mean) & ((mean > 0) | (not log_y))
        mean = np.where(shown, mean, np.nan)
        lowest = min(lowest, mean[shown].min(initial=np.inf))
        at = np.arange(len(mean)) if positions is None else positions
        # A point between two gaps has no line to either side, so it is drawn as a dot, and its interval as a bar.
        neighbours = np.pad(shown, 1)
        alone = np.flatnonzero(shown & ~neighbours[:-2] & ~neighbours[2:])
        color, dashes = COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)]
        label = f"{name}{missing_seeds(np.atleast_2d(y))}"
        lines += axes.plot(at, mean, color=color, linestyle=dashes, label=label, zorder=3)
        if alone.size:
            axes.plot(at[alone], mean[alone], color=color, linestyle="", marker="o", markersize=3, zorder=3)
        banded = shown & np.isfinite(low) & np.isfinite(high)
        barred = alone[banded[alone]]
        if barred.size:
            axes.vlines(at[barred], low[barred], high[barred], color=color, alpha=0.4, linewidth=3, zorder=2)
        if banded.any():
            axes.fill_between(at, low, high, where=banded, color=color, alpha=0.16, linewidth=0, zorder=2)

    describe(axes, title, xlabel, ylabel)
    axes.margins(x=0.02)
    if positions is None or (positions % 1 == 0).all():
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=(1, 2, 2.5, 5, 10), integer=True))
    if log_y:
        if not np.isfinite(lowest):
            raise ValueError("log_y=True needs positive values, and no series has one")
        axes.set_yscale("log")
        # A band that reaches down to zero would leave no room for the lines.
        axes.set_ylim(bottom=max(axes.get_ylim()[0], lowest / 10))
        bottom, top = axes.get_ylim()
        if top / bottom < 300:  # few powers of ten: label some values between them
            between = LogLocator(subs=(1, 2, 5))
            seen = [tick for tick in between.tick_values(bottom, top) if bottom <= tick <= top]
            axes.yaxis.set_major_locator(between if len(seen) > 1 else MaxNLocator(5))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.8g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
    if log_x:
        if positions is None or positions.min() <= 0:
            raise ValueError("log_x=True needs positive positions x")
        axes.set_xscale("log")
        axes.set_xticks(positions, [f"{position:g}" for position in positions])
        axes.xaxis.set_minor_formatter(NullFormatter())
    many = any(y.ndim == 2 and len(y) > 1 for y in series.values())
    said = f"mean and {100 * interval:g} % interval" if many else None
    grown_legend(axes, lines, len(COLORS) * len(DASHES), said)
    return figure


def missing_seeds(y: np.ndarray) -> str:
    """What the legend adds for y[seeds, points] with seeds that are not finite where others are, or nowhere."""
    finite = np.isfinite(y)
    missing = ((~finite[:, finite.any(0)]).any(1) | ~finite.any(1)).sum()
    return f"\n({missing} of {len(y)} seeds not finite)" if missing else ""
