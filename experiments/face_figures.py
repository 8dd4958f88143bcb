"""What is drawn of both tasks with faces."""

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

import jann
from experiments.eigenfaces import flat
from experiments.face_training import Settings, steps_at
from experiments.face_verification import cosines_of, pairs_of
from jann.analysis import roc_curve

FALSE_ACCEPTS = np.geomspace(1e-3, 1, 61)
MOST = 12  # pairs, and eigenfaces


def eigenfaces_figure(images: np.ndarray) -> Figure:
    """The mean of images[people, photographs, size, size, 1] and the first components, each on a scale of its own"""
    rows = flat(images)
    fitted = PCA(min(MOST + 3, len(rows) - 1), svd_solver="full").fit(rows)
    pictures = np.concatenate([rows.mean(0)[None], fitted.components_])
    pictures = pictures.reshape(-1, *images.shape[2:4])
    low, high = (edge(pictures, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    shares = [f"{number} ({100 * share:.1f} %)" for number, share in enumerate(fitted.explained_variance_ratio_, 1)]
    return jann.plots.images(
        (pictures - low) / (high - low),
        ["mean", *shares],
        title="Mean face and eigenfaces of all photographs (share of the variance)",
    )


def roc_figure(similarities: dict[str, tuple[str, list]], people: int, photographs: int) -> Figure:
    """True accepts over false accepts, their mean and interval over seeds"""
    first, second, same = pairs_of(people, photographs)
    series = {}
    for method, (_, of_seeds) in similarities.items():
        rates = [roc_curve(similarity[first, second], same) for similarity in of_seeds]
        series[method] = np.stack([np.interp(FALSE_ACCEPTS, wrong, right) for wrong, right in rates])
    figure = jann.plots.curves(
        series, x=FALSE_ACCEPTS, xlabel="false accepts", ylabel="true accepts", title="People who were never seen"
    )
    (axes,) = figure.axes
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    return figure


def pairs_figures(images: np.ndarray, embeddings: np.ndarray, numbers: np.ndarray) -> dict[str, Figure]:
    """The most similar pairs of different people, and the least similar of the same: images[people, photographs, ...]

    numbers:  those of the people in the data
    """
    people, photographs = images.shape[:2]
    first, second, same = pairs_of(people, photographs)
    cosines = cosines_of(embeddings)[first, second]
    pictures = images.reshape(-1, *images.shape[2:])
    titles = {
        "alike": (~same, -cosines, "Different people, most similar (number of each, cosine)"),
        "unlike": (same, cosines, "One person, least similar (number, cosine)"),
    }
    drawn = {}
    for name, (kind, order, title) in titles.items():
        # No photograph comes twice, so that one odd photograph does not fill the figure.
        worst, seen = [], set()
        for pair in np.flatnonzero(kind)[np.argsort(order[kind], kind="stable")]:
            if not {first[pair], second[pair]} & seen:
                worst.append(pair)
                seen |= {first[pair], second[pair]}
        worst = np.array(worst[:MOST])
        both = np.concatenate([pictures[first[worst]], pictures[second[worst]]], axis=2)
        names = [
            f"{numbers[first[pair] // photographs]} and {numbers[second[pair] // photographs]}: {cosines[pair]:.2f}"
            if name == "alike"
            else f"{numbers[first[pair] // photographs]}: {cosines[pair]:.2f}"
            for pair in worst
        ]
        drawn[name] = jann.plots.images(both, names, columns=4, title=title)
    return drawn


def map_figure(embeddings: np.ndarray, numbers: np.ndarray, method: str) -> Figure:
    """embeddings[people, photographs, embed] in the plane, by t-SNE (van der Maaten and Hinton 2008)"""
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    perplexity = min(embeddings.shape[1], len(rows) - 1)
    people = np.argsort(np.argsort(numbers))  # so that the legend is in order
    points = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=0).fit_transform(rows)
    figure = jann.plots.scatter(
        points,
        np.repeat(people, embeddings.shape[1]),
        [f"person {number}" for number in sorted(numbers)],
        title=f"Embeddings of people never seen, {method} (t-SNE)",
    )
    (axes,) = figure.axes
    axes.set(xticks=[], yticks=[])
    for points in axes.collections:
        points.set_alpha(0.9)
        points.set_sizes([26])
    return figure


def all_figures(
    images: np.ndarray, prepared: np.ndarray, losses: dict[str, np.ndarray], verified: dict, settings: Settings
) -> dict[str, Figure]:
    """images[people, photographs, height, width, 1], as they came and prepared; what both tasks returned -> by name"""
    at, numbers = steps_at(settings), verified["people"]
    figures = {
        "eigenfaces": eigenfaces_figure(prepared),
        "identification_loss": jann.plots.curves(losses, x=at, ylabel="cross-entropy (nats)", log_y=True),
        "validation_area": jann.plots.curves(
            verified["curves"], x=at, ylabel="ROC area", title="People validated on, while others are learnt"
        ),
        "roc": roc_figure(verified["similarities"], len(numbers), images.shape[1]),
        "map": map_figure(verified["embeddings"], numbers, verified["best"]),
        **pairs_figures(images[numbers], verified["embeddings"], numbers),
    }  # fmt: skip
    return figures
