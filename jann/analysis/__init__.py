"""What a set of results says, and whether gradients are right."""

from jann.analysis.answers import answer_scores, exact_match, word_f1
from jann.analysis.detections import average_precision, precision_and_recall
from jann.analysis.frechet import frechet_distance
from jann.analysis.gradients import GradientError, check_gradients
from jann.analysis.intervals import interval
from jann.analysis.segments import intersection_over_union, rand_f_score
from jann.analysis.verification import roc_curve, verification_scores

__all__ = [
    "GradientError",
    "answer_scores",
    "average_precision",
    "check_gradients",
    "exact_match",
    "frechet_distance",
    "interval",
    "intersection_over_union",
    "precision_and_recall",
    "rand_f_score",
    "roc_curve",
    "verification_scores",
    "word_f1",
]
