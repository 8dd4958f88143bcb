"""Pictures of what moves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jann.plots.inputs import as_array
from jann.plots.style import COLORS, FAINT, GRID, INK, NORMAL, Picture, broken, house_style, lines_height


@house_style
def motion(joints: np.ndarray, captions: Sequence[str], columns: int = 8, title: str | None = None) -> Figure:
    """Draw a body of joints[frames, points, 2], right and up, that links join one after another: a panel each frame.

    All panels show the same place. The first point is a square, where the body is held or pushed. captions[frames]
    stand above them. Raises ValueError for captions of another number.
    """
    joints = as_array("joints", joints, "frames, points, 2")
    if len(captions) != len(joints):
        raise ValueError(f"captions are {len(captions)}, one for each of the {len(joints)} frames is wanted")
    low, high = joints.min((0, 1)) - 0.3, joints.max((0, 1)) + 0.3
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 1.0)
    columns = max(1, min(columns, len(joints)))
    rows = -(-len(joints) // columns)
    heads = [broken(caption, 1.2) for caption in captions]
    across = 1.25
    up = min(max(across * half[1] / half[0], 0.5), 2.5) + lines_height(heads, NORMAL) + 0.1
    figure = Picture((0.2 + across * columns, 0.2 + up * rows + 0.3 * (title is not None)), layout="constrained")
    for axes in (places := figure.subplots(rows, columns, squeeze=False).ravel()):
        axes.set_axis_off()
    for axes, head, points in zip(places, heads, joints, strict=False):
        axes.axhline(points[0, 1] if len(points) == 2 else 0.0, color=GRID, linewidth=0.8, zorder=0)
        axes.plot(*points.T, color=COLORS[0], linewidth=2, solid_capstyle="round")
        axes.plot(*points[:1].T, "s", color=INK, markersize=5)
        axes.plot(*points[1:].T, "o", color=COLORS[1], markersize=3.5)
        axes.set_title(head, size=NORMAL, color=FAINT, loc="center")
        axes.set(xlim=middle[0] + half[0] * np.array([-1, 1]), ylim=middle[1] + half[1] * np.array([-1, 1]))
        axes.set_aspect("equal")
    if title is not None:
        figure.suptitle(broken(title, across * columns), size=NORMAL + 1)
    return figure
