"""What a set of results says, and whether gradients are right."""

from jann.analysis.frechet import frechet_distance
from jann.analysis.gradients import GradientError, check_gradients
from jann.analysis.intervals import interval

__all__ = [
    "GradientError",
    "check_gradients",
    "frechet_distance",
    "interval",
]
