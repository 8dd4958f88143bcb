"""Intervals over runs refuse what has none."""

import numpy as np
import pytest

from jann.analysis import interval


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([1.0, 2.0], 95, "level must be between 0 and 1"),
        ([], 0.95, r"at least one run on axis 0, got shape \[0\]"),
        (3.0, 0.95, r"at least one run on axis 0, got shape \[\]"),
    ],
)
def test_bad_input(values, level, message):
    with pytest.raises(ValueError, match=message):
        interval(np.array(values), level=level)
