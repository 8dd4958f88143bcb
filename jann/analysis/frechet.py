"""How far apart two sets of examples lie, by the Gaussians fitted to their features."""

import numpy as np


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """features[n, d], others[m, d] -> |μ₁ − μ₂|² + trace(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½), of their means and covariances.

    With features of the Inception network it is FID (Heusel et al. 2017, arXiv:1706.08500). It is biased upwards where
    examples are few, so compare distances between sets of equal sizes only.

    Raises ValueError where the features differ in shape, are not finite, or have fewer than two examples.
    """
    features, others = np.asarray(features, np.float64), np.asarray(others, np.float64)
    if features.ndim != 2 or others.ndim != 2 or features.shape[1] != others.shape[1]:
        raise ValueError(
            f"frechet_distance takes features[n, d] and others[m, d], got {list(features.shape)} and "
            f"{list(others.shape)}"
        )
    if min(len(features), len(others)) < 2:
        raise ValueError(f"a covariance needs two examples at least, got {len(features)} and {len(others)}")
    if not (np.isfinite(features).all() and np.isfinite(others).all()):
        raise ValueError("the features must be finite: a generator that diverged makes images of NaN")
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (features, others))
    # The eigenvalues of Σ₁ Σ₂ are those of the symmetric Σ₁^½ Σ₂ Σ₁^½, which also a singular Σ₁ leaves real.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    distance = np.square(features.mean(0) - others.mean(0)).sum() + np.trace(first) + np.trace(second) - 2 * shared
    return float(max(distance, 0.0))
