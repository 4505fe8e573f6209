"""Student's t for a handful of repeated trainings: an interval of a mean, and a test of paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.05
"""Tests reject below this p-value, two-sided; intervals cover 1 - ALPHA."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval, fractions."""

    mean: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values with its t-interval.

    Raises:
        ValueError: fewer than two values, which say nothing of their spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs two values or more, got {len(values)}")
    from scipy.special import stdtrit

    mean = statistics.fmean(values)
    half = float(stdtrit(len(values) - 1, 1 - ALPHA / 2)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def paired_p(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sided p-value of the paired t-test that the two have one mean; pair by pair of the same seed.

    Differences that are all the same prove that they are equal (1) or that they are not (0).

    Raises:
        ValueError: fewer than two pairs, or values without a partner.
    """
    from scipy.special import stdtr

    gaps = [a - b for a, b in zip(first, second, strict=True)]
    if len(gaps) < 2:
        raise ValueError(f"a paired test needs two pairs or more, got {len(gaps)}")
    mean, deviation = statistics.fmean(gaps), statistics.stdev(gaps)
    if deviation <= 1e-12:  # rounding of accuracies, which are shares of a thousand images or more
        return 1.0 if abs(mean) <= 1e-12 else 0.0
    return 2 * float(stdtr(len(gaps) - 1, -abs(mean) * math.sqrt(len(gaps)) / deviation))
