"""What a set of results says: intervals over seeds."""

from jann.analysis.intervals import interval

__all__ = ["interval"]
