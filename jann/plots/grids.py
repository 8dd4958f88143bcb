"""Grids of pictures: images, convolution kernels, feature maps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jann.plots.inputs import as_array, finite_range, largest_size, same_length
from jann.plots.style import (
    AMOUNT,
    GREYS,
    HIGHLIGHT,
    LARGE,
    NOT_FINITE,
    SIGNED,
    SMALL,
    broken,
    canvas,
    color_bar,
    house_style,
    lines_height,
    wrapped,
)

MARGIN, GAP = 0.12, 0.08  # inches


@house_style
def images(
    images: np.ndarray,
    captions: Sequence[str] | None = None,
    columns: int = 8,
    title: str | None = None,
    highlight: np.ndarray | None = None,
) -> Figure:
    """Draw images[n, height, width], or with 1 or 3 channels last, in a grid with captions below.

    Grey images share one scale: 0 to 255 for uint8, 0 to 1 for floats within that, else the smallest to the
    largest value. Colour images must be uint8, or floats from 0 to 1. Pixels that are not finite are pink.
    highlight[n] is true for those that get a frame.
    """
    pictures = as_array("images", images, "n, height, width", "n, height, width, 1 or 3")
    if pictures.ndim == 4 and pictures.shape[-1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, last, got shape {list(pictures.shape)}")
    if pictures.ndim == 4 and pictures.shape[-1] == 1:
        pictures = pictures[..., 0]
    low, high = finite_range(pictures)
    if pictures.dtype == np.uint8:
        low, high = 0, 255
    elif 0 <= low and high <= 1:
        low, high = 0, 1
    elif pictures.ndim == 4:
        raise ValueError(
            f"colour images must be uint8 or from 0 to 1, but these run from {low:.3g} to {high:.3g}: "
            "undo the scaling that their model was given"
        )
    return grid(pictures, columns, 1.0, GREYS, (low, high), captions, title, highlight)


@house_style
def filters(
    kernel: np.ndarray, columns: int = 8, max_filters: int = 64, channel: int | None = None
) -> Figure:
    """Draw kernel[height, width, in, out] as one picture per output channel, all on one scale.

    Three input channels are shown as colours, grey being zero and pink not finite. Of another number the
    mean is shown, or only the one numbered `channel`. The title says which.
    """
    kernel = as_array("kernel", kernel, "height, width, in, out")
    height, width, inputs, outputs = kernel.shape
    if channel is not None and not 0 <= channel < inputs:
        raise ValueError(f"channel must be from 0 to {inputs - 1}, got {channel}")
    shown = min(outputs, max_filters)
    pictures = np.moveaxis(kernel[..., :shown], -1, 0)
    name = f"{outputs} filters {height}×{width}×{inputs}" + (f", first {shown}" if shown < outputs else "")
    if inputs == 3 and channel is None:
        largest = largest_size(pictures)
        colors = 0.5 + 0.5 * pictures / largest
        return grid(
            colors, columns, 0.7, None, (0, 1), title=f"{name}, input channels as RGB, ±{largest:.2g}"
        )
    if inputs == 1 or channel is not None:
        pictures = pictures[..., channel or 0]
        name += f", input channel {channel}" if inputs > 1 else ""
    else:
        pictures = pictures.mean(-1)
        name += f", mean over {inputs} input channels"
    largest = largest_size(pictures)
    return grid(pictures, columns, 0.7, SIGNED, (-largest, largest), title=name, bar="weight")


@house_style
def feature_maps(
    activation: np.ndarray, max_maps: int = 32, columns: int = 8, title: str | None = None
) -> Figure:
    """Draw activation[height, width, channels] of one example, one picture per channel, all on one scale."""
    activation = as_array("activation", activation, "height, width, channels")
    height, width, channels = activation.shape
    shown = min(channels, max_maps)
    pictures = np.moveaxis(activation[..., :shown], -1, 0)
    largest = largest_size(pictures)
    signed = finite_range(pictures)[0] < 0
    if title is None:
        title = f"{channels} feature maps {height}×{width}" + (f", first {shown}" if shown < channels else "")
    limits, color_map = ((-largest, largest), SIGNED) if signed else ((0, largest), AMOUNT)
    return grid(pictures, columns, 0.9, color_map, limits, title=title, bar="activation")


def grid(
    pictures: np.ndarray,
    columns: int,
    cell: float,
    color_map,
    limits: tuple[float, float],
    captions: Sequence[str] | None = None,
    title: str | None = None,
    highlight: np.ndarray | None = None,
    bar: str | None = None,
) -> Figure:
    """Draw pictures[n, height, width] or [n, height, width, 3] in rows, each in a square of `cell` inches.

    All are placed by hand in one set of axes, which is far quicker to draw than one for each.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    if not len(pictures):
        raise ValueError("none is left to draw: max_filters and max_maps must be at least 1")
    columns, rows = min(columns, len(pictures)), -(-len(pictures) // columns)
    if pictures.ndim == 4 and not np.isfinite(pictures).all():
        pictures = np.where(np.isfinite(pictures).all(-1, keepdims=True), pictures, to_rgb(NOT_FINITE))
    if captions is not None:
        same_length("captions", captions, "images", pictures)
    if highlight is not None:
        same_length("highlight", highlight, "images", pictures)
    caption_lines = [wrapped(str(caption), cell, SMALL) for caption in ([] if captions is None else captions)]
    line = 1.25 * SMALL / 72
    below = max(map(len, caption_lines), default=0) * line + (0.07 if caption_lines else 0)
    picture_height, picture_width = np.array(pictures.shape[1:3]) * cell / max(pictures.shape[1:3])
    pitch = picture_height + below + GAP
    beside = 0.75 if bar else 0.0
    width = max(2 * MARGIN + columns * (cell + GAP) - GAP + beside, 2.4)
    title = broken(title, width - 2 * MARGIN, LARGE)
    above = lines_height([title], LARGE) + (0.1 if title else 0)
    height = 2 * MARGIN + above + rows * pitch - GAP

    figure, axes = canvas(width, max(height, 1.5 if bar else 0))
    top = figure.get_size_inches()[1] - MARGIN
    if title:
        axes.text(MARGIN, top, title, va="top", size=LARGE, linespacing=1.25)
    top -= above
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        left = MARGIN + column * (cell + GAP) + (cell - picture_width) / 2
        ceiling = top - row * pitch
        place = (left, left + picture_width, ceiling - picture_height, ceiling)
        axes.imshow(picture, cmap=color_map, vmin=limits[0], vmax=limits[1], extent=place, aspect="auto")
        # Signed pictures and amounts are white at zero, so they need an edge.
        marked = highlight is not None and highlight[index]
        if marked or bar:
            edge, thick = (HIGHLIGHT, 2) if marked else ("#CCCCCC", 0.5)
            corner = (left, place[2])
            axes.add_patch(
                Rectangle(corner, picture_width, picture_height, fill=False, edgecolor=edge, linewidth=thick)
            )
        if caption_lines:
            middle, caption = left + picture_width / 2, "\n".join(caption_lines[index])
            axes.text(middle, place[2] - 0.05, caption, size=SMALL, ha="center", va="top")
    if bar:
        tall = min(top - MARGIN, 2.0)
        color_bar(figure, (MARGIN + columns * (cell + GAP), top - tall, 0.09, tall), color_map, limits, bar)
    return figure
