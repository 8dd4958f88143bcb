"""What a set of results says, and whether gradients are right."""

from jann.analysis.gradients import GradientError, check_gradients
from jann.analysis.intervals import interval

__all__ = ["GradientError", "check_gradients", "interval"]
