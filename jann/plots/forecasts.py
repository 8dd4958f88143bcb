"""Forecasts beside what came, and which variables they were made of."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    broken,
    house_style,
    lines_height,
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

    columns = max(1, min(columns, len(truth)))
    rows = -(-len(truth) // columns)
    width = 0.3 + 3.4 * columns
    heads, xlabel = [broken(name, 2.8, NORMAL + 1) for name in names], broken(xlabel, 2.8, NORMAL + 1)
    title = broken(title, width - 0.2, LARGE)
    height = 0.45 + lines_height([title], LARGE) + lines_height([xlabel], NORMAL + 1)
    height += rows * (1.4 + lines_height(heads, NORMAL + 1))
    figure = Picture((width, height), layout="constrained")
    past, ahead = np.arange(-history.shape[1] + 1, 1), np.arange(1, truth.shape[1] + 1)
    drawn: dict[str, object] = {}
    dots = {"marker": "o" if len(ahead) == 1 else None, "markersize": 4}  # one step makes no line
    for index, head in enumerate(heads):
        axes = quiet(figure.add_subplot(rows, columns, index + 1))
        drawn["history"] = axes.plot(past, history[index], color=FAINT, linewidth=1)[0]
        for low in range(len(levels) // 2):
            ends = predicted[index, :, low], predicted[index, :, -1 - low]
            label = f"{levels[low]:g} to {levels[-1 - low]:g} quantile"
            if len(ahead) == 1:
                drawn[label] = axes.vlines(ahead, *ends, color=POSITIVE, alpha=0.18, linewidth=6)
            else:
                drawn[label] = axes.fill_between(ahead, *ends, color=POSITIVE, alpha=0.18, linewidth=0)
        drawn["truth"] = axes.plot(ahead, truth[index], color=INK, linewidth=1.2, **dots)[0]
        if len(levels) % 2:
            level = levels[len(levels) // 2]
            label = "forecast" if quantiles is None else "median" if level == 0.5 else f"{level:g} quantile"
            drawn[label] = axes.plot(ahead, predicted[index, :, len(levels) // 2], color=HIGHLIGHT, **dots)[0]
        axes.axvline(0.5, color=FAINT, linewidth=0.6)
        axes.set_title(head, size=NORMAL + 1)
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        axes.margins(x=0.04 if len(ahead) == 1 else 0.01)
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
    """Draw groups {"past": {"hour": 0.3, ...}, ...} as bars, a panel a group, the largest on top: -> Figure

    Values that are not finite have no bar and come last.
    """
    if not groups or not all(groups.values()):
        raise ValueError('groups needs variables in each group: {"past": {"hour": 0.3}}')
    heads, xlabel = [broken(name, 3.0, NORMAL + 1) for name in groups], broken(xlabel, 3.0, NORMAL + 1)
    title = broken(title, 4.0, LARGE)
    bars = [
        sorted(weights.items(), key=lambda bar: bar[1] if np.isfinite(bar[1]) else -np.inf)
        for weights in groups.values()
    ]
    names = [[broken(name, 2.5) for name, _ in group] for group in bars]
    below_zero = any(-np.inf < weight < 0 for group in bars for _, weight in group)
    room = 0.25 if below_zero else 0.12  # for the numbers, which are left of such bars
    thick = 0.1 + lines_height(sum(names, []), NORMAL)
    heights = [thick * len(group) for group in names]
    width = 3.6 + max(text_width(name) for group in names for name in group)
    above = 0.15 + lines_height(heads, NORMAL + 1)
    height = 0.35 + lines_height([title], LARGE) + lines_height([xlabel], NORMAL + 1)
    figure = Picture((width, height + sum(heights) + above * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=[0.1 + h for h in heights])
    for index, (axes, head, group) in enumerate(zip(panels[:, 0], heads, names, strict=True)):
        weights, color = [weight for _, weight in bars[index]], COLORS[index % len(COLORS)]
        shown = np.where(np.isfinite(weights), weights, 0)
        drawn = quiet(axes).barh(range(len(group)), shown, height=0.7, color=color)
        axes.set_yticks(range(len(group)), group)
        said = [f"{weight:.2f}" if abs(weight) < 1000 else f"{weight:.3g}" for weight in weights]
        axes.bar_label(drawn, said, padding=2, size=NORMAL - 1, color=INK)
        axes.grid(False, axis="y")
        axes.set_title(head, size=NORMAL + 1)
        axes.margins(x=room)
    panels[-1, 0].set_xlabel(xlabel)
    if title:
        figure.suptitle(title, x=0.01, ha="left", size=LARGE)
    return figure
