"""Forecasts beside what came, and which variables they were made of."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jann.plots.inputs import as_array
from jann.plots.style import (
    COLORS,
    FAINT,
    HIGHLIGHT,
    INK,
    LARGE,
    NORMAL,
    POSITIVE,
    Picture,
    house_style,
    quiet,
    text_width,
)


@house_style
def forecasts(
    history: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str] | None = None,
    quantiles: Sequence[float] | None = None,
    xlabel: str = "steps ahead",
    title: str | None = None,
    columns: int = 2,
) -> Figure:
    """Draw history[panels, time], then truth[panels, horizon] and predicted[panels, horizon], a panel each.

    With `quantiles`, predicted is [panels, horizon, quantiles]: the middle one is the line, and each pair (0.1 and 0.9)
    the ends of a band.
    """
    history, truth = (as_array(n, a, "panels, time") for n, a in (("history", history), ("truth", truth)))
    shape = "panels, horizon" if quantiles is None else "panels, horizon, quantiles"
    predicted = as_array("predicted", predicted, shape)
    levels = [0.5] if quantiles is None else list(quantiles)
    predicted = predicted[..., None] if quantiles is None else predicted
    if predicted.shape != (*truth.shape, len(levels)) or len(history) != len(truth):
        raise ValueError(
            f"history {list(history.shape)}, truth {list(truth.shape)} and predicted {list(predicted.shape)} must "
            f"agree in panels, horizon and the {len(levels)} quantiles"
        )
    names = [""] * len(truth) if names is None else list(names)
    if len(names) != len(truth):
        raise ValueError(f"{len(names)} names for {len(truth)} panels")
    order = np.argsort(levels)
    levels, predicted = np.asarray(levels)[order], predicted[..., order]

    columns = min(columns, len(truth))
    rows = -(-len(truth) // columns)
    width = 0.3 + 3.4 * columns
    figure = Picture((width, 0.6 + 1.55 * rows + 0.25 * bool(title)), layout="constrained")
    past, ahead = np.arange(-history.shape[1] + 1, 1), np.arange(1, truth.shape[1] + 1)
    drawn: dict[str, object] = {}
    for index, name in enumerate(names):
        axes = quiet(figure.add_subplot(rows, columns, index + 1))
        drawn["history"] = axes.plot(past, history[index], color=FAINT, linewidth=1)[0]
        for low in range(len(levels) // 2):
            ends = predicted[index, :, low], predicted[index, :, -1 - low]
            label = f"{levels[low]:g} to {levels[-1 - low]:g} quantile"
            drawn[label] = axes.fill_between(ahead, *ends, color=POSITIVE, alpha=0.18, linewidth=0)
        drawn["truth"] = axes.plot(ahead, truth[index], color=INK, linewidth=1.2)[0]
        if len(levels) % 2:
            level = levels[len(levels) // 2]
            label = "forecast" if quantiles is None else "median" if level == 0.5 else f"{level:g} quantile"
            drawn[label] = axes.plot(ahead, predicted[index, :, len(levels) // 2], color=HIGHLIGHT)[0]
        axes.axvline(0.5, color=FAINT, linewidth=0.6)
        axes.set_title(name, size=NORMAL + 1)
        axes.margins(x=0.01)
        if index + columns >= len(names):
            axes.set_xlabel(xlabel)  # not of the figure, whose label would lie where the legend does
    if title:
        figure.suptitle(title, x=0.01, ha="left", size=LARGE)
    needed = sum(0.6 + text_width(label) for label in drawn)  # in inches, with a line before each
    across = len(drawn) if needed < width else 2
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=across, fontsize=NORMAL)
    return figure


@house_style
def importances(groups: Mapping[str, Mapping[str, float]], xlabel: str = "mean weight", title: str | None = None):
    """Draw groups {"past": {"hour": 0.3, ...}, ...} as bars, a panel a group, the largest on top: -> Figure"""
    if not groups or not all(groups.values()):
        raise ValueError('groups needs variables in each group: {"past": {"hour": 0.3}}')
    longest = max(text_width(name) for weights in groups.values() for name in weights)
    heights = [len(weights) for weights in groups.values()]
    size = (longest + 3.6, 0.5 + sum(0.3 + 0.24 * n for n in heights) + 0.25 * bool(title))
    figure = Picture(size, layout="constrained")
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=[n + 0.4 for n in heights])
    for index, (axes, (name, weights)) in enumerate(zip(panels[:, 0], groups.items(), strict=True)):
        weights = dict(sorted(weights.items(), key=lambda item: item[1]))
        bars = quiet(axes).barh(list(weights), list(weights.values()), height=0.7, color=COLORS[index % len(COLORS)])
        axes.bar_label(bars, fmt="{:.2f}", padding=2, size=NORMAL - 1, color=INK)
        axes.grid(False, axis="y")
        axes.set_title(name, size=NORMAL + 1)
        axes.margins(x=0.12)
    panels[-1, 0].set_xlabel(xlabel)
    if title:
        figure.suptitle(title, x=0.01, ha="left", size=LARGE)
    return figure
