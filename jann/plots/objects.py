"""Pictures with boxes around what is on them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jann.plots.inputs import as_array
from jann.plots.style import COLORS, DASHES, FAINT, NORMAL, SMALL, Picture, broken, house_style, lines_height


@house_style
def boxes(
    images: np.ndarray,
    found: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    classes: Sequence[str],
    truth: Sequence[np.ndarray] | None = None,
    columns: int = 3,
    captions: Sequence[str] | None = None,
) -> Figure:
    """Draw images[n, height, width, 1 or 3], 0 to 255 or 0 to 1, with found[n][count, 4] coloured by class.

    found, truth:  top, left, bottom, right in pixels; true ones are dashed, white on black
    labels:        [n][count], the class of each that was found, which the legend names; where classes are more than
                   there are colours, so does a tag at each box
    """
    pictures = as_array("images", images, "n, height, width, channels")
    pictures = pictures / 255 if pictures.dtype == np.uint8 else pictures
    if not len(found) == len(labels) == len(pictures):
        raise ValueError(f"found {len(found)} and labels {len(labels)} for {len(pictures)} images: as many are wanted")
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    heads = [broken(head, 2.5) for head in captions or [""] * len(pictures)]
    high = 2.6 * pictures.shape[1] / pictures.shape[2] + lines_height(heads, NORMAL)
    figure = Picture((2.7 * columns, high * rows + 0.4), layout="constrained")
    for axes in (places := figure.subplots(rows, columns, squeeze=False).ravel()):
        axes.set_axis_off()
    met = {}
    for i, (axes, picture) in enumerate(zip(places, pictures, strict=False)):
        axes.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)), interpolation="nearest")
        axes.set_title(heads[i], size=NORMAL, color=FAINT)
        for box in [] if truth is None else truth[i]:
            axes.add_patch(framed(box, edgecolor="black", linewidth=1.8))
            axes.add_patch(framed(box, edgecolor="white", linewidth=1.0, linestyle=DASHES[1]))
        for box, label in zip(found[i], labels[i], strict=True):
            color = COLORS[label % len(COLORS)]
            axes.add_patch(framed(box, edgecolor=color, linewidth=1.3))
            if len(classes) > len(COLORS):
                tag = {"facecolor": color, "edgecolor": "none", "pad": 1}
                axes.text(box[1], box[0], classes[label], size=SMALL, color="white", bbox=tag)
        met |= {classes[label]: COLORS[label % len(COLORS)] for label in labels[i]}
    lines = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=met[name], label=name) for name in classes if name in met]
    lines = lines if len(classes) <= len(COLORS) else []
    if truth is not None:
        lines.append(Rectangle((0, 0), 1, 1, fill=False, edgecolor="black", linestyle=DASHES[2], label="true"))
    if lines:
        figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
    return figure


def framed(box: np.ndarray, **look) -> Rectangle:
    top, left, bottom, right = np.asarray(box, float)
    return Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, **look)
