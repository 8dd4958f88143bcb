"""How well scores tell pairs of the same from pairs of different ones."""

import numpy as np


def roc_curve(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """scores[pairs], higher where more alike, same[pairs] true or false -> rates of false and of true accepts, each [n]

    A pair is accepted that has at least the threshold's score; one rate for each threshold, from none accepted to all.
    They are the false and true positive rates of scikit-learn's `roc_curve`.

    Raises ValueError for other shapes, scores that are not finite, and where all pairs are of one kind.
    """
    from sklearn.metrics import roc_curve as rates

    scores, same = np.asarray(scores), np.asarray(same, bool)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(f"scores {list(scores.shape)} and same {list(same.shape)}: [pairs] wanted of both")
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite")
    if same.all() or not same.any():
        raise ValueError(f"{same.sum()} of {len(same)} pairs are of the same: both kinds are needed")
    false_accepts, true_accepts, _ = rates(same, scores, drop_intermediate=False)
    return false_accepts, true_accepts


def verification_scores(scores: np.ndarray, same: np.ndarray, false_accepts: float = 0.01) -> dict[str, float]:
    """scores[pairs], same[pairs] -> {"roc_area", "equal_error_rate", "true_accept_rate"}, each from 0 to 1

    roc_area:          the probability that of two pairs that of the same has the higher score, equal ones counted half
    equal_error_rate:  where as great a share of the different is accepted as of the same is refused, on straight lines
                       between the points of the ROC curve
    true_accept_rate:  the share of the same that is accepted, by the lowest threshold that accepts no more than
                       `false_accepts` of the different

    Raises ValueError as `roc_curve`, and for false_accepts that are not from 0 to 1.
    """
    if not 0 <= false_accepts <= 1:
        raise ValueError(f"false_accepts={false_accepts}: a share from 0 to 1")
    wrong, right = roc_curve(scores, same)
    area = float(np.trapezoid(right, wrong))
    gap = wrong - (1 - right)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    equal = float(wrong[after - 1] + share * (wrong[after] - wrong[after - 1]))
    return {"roc_area": area, "equal_error_rate": equal,
            "true_accept_rate": float(right[wrong <= false_accepts].max())}  # fmt: skip
