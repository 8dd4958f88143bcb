"""Faces compared without learning from labels: by pixels, and by principal components (Turk and Pentland 1991)."""

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA

COMPONENTS = (10, 20, 40, 80, 160)  # tried, as far as there are photographs

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]


def flat(images: np.ndarray) -> np.ndarray:
    """images[..., height, width, 1] -> one picture a row, [n, pixels]"""
    return images.reshape(-1, np.prod(images.shape[-3:]))


def by_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """first[n, k], second[m, k] -> their distances times −1, so that the highest is the nearest, [n, m]"""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return -np.sqrt(np.maximum(squares, 0))


def by_angle(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """first[n, k], second[m, k] -> cosines of the angles between them, [n, m]"""
    length = 1e-12 + np.linalg.norm(first, axis=1)[:, None], 1e-12 + np.linalg.norm(second, axis=1)[None]
    return first @ second.T / length[0] / length[1]


def eigenfaces(images: np.ndarray, components: int, whiten: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """Principal components of images[..., height, width, 1] -> a function from such images to their weights [n, k]

    whiten:  weights divided by their deviations over `images`, so that all components count alike

    Raises ValueError for more components than images can have, one less than there are of them.
    """
    rows = flat(images)
    most = min(len(rows) - 1, rows.shape[1])
    if not 1 <= components <= most:
        raise ValueError(f"components={components}: {len(rows)} images have 1 to {most}")
    fitted = PCA(components, whiten=whiten, svd_solver="full").fit(rows)
    return lambda images: fitted.transform(flat(images))


def without_labels(images: np.ndarray) -> dict[tuple[str, int | None], tuple[Callable, Similarity]]:
    """images to learn from -> {(way, components): (function from images to [n, k], similarity of those)}"""
    ways = {("raw pixels", None): (flat, by_distance)}
    for count in COMPONENTS:
        if count < len(flat(images)):
            ways["eigenfaces", count] = (eigenfaces(images, count), by_distance)
            ways["eigenfaces, whitened", count] = (eigenfaces(images, count, whiten=True), by_angle)
    return ways


def chosen(validated: dict[tuple[str, int | None], np.ndarray]) -> dict[str, int | None]:
    """{(way, components): scores[seeds] on validation} -> {way: the number of components with the highest mean}"""
    means = {name: np.mean(scores) for name, scores in validated.items()}
    ways = dict.fromkeys(way for way, _ in means)
    return {way: max((name for name in means if name[0] == way), key=means.get)[1] for way in ways}
