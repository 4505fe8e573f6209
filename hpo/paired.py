"""Student's t for a handful of repeated trainings: an interval of a mean, and tests of differences paired by seed."""

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


@dataclass(frozen=True)
class Noise:
    """How much repeated trainings scatter beside what configuration and seed explain."""

    variance: float
    """Of one training."""
    freedom: int
    """Degrees of freedom of that estimate."""
    seeds: int

    def difference(self, gap: float) -> Interval:
        """The interval of a difference `gap` between two configurations' means."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, 1 - ALPHA / 2)) * self._error()
        return Interval(gap, gap - half, gap + half)

    def p(self, gap: float) -> float:
        """The two-sided p-value that two configurations whose means lie `gap` apart have one mean.

        Without any scatter equal means are equal (1) and others are not (0).
        """
        from scipy.special import stdtr

        if self.variance <= 1e-24:  # rounding of accuracies, which are shares of a thousand images or more
            return 1.0 if abs(gap) <= 1e-12 else 0.0
        return 2 * float(stdtr(self.freedom, -abs(gap) / self._error()))

    def _error(self) -> float:
        return math.sqrt(2 * self.variance / self.seeds)


def pooled(accuracies: Sequence[Sequence[float]]) -> Noise:
    """The noise of configurations (rows) that were all trained with the same seeds (columns).

    The analysis of variance of a randomised block design. With two configurations it is the paired t-test; with more,
    all of them tell how much trainings scatter, which three seeds of two of them hardly do.

    Raises:
        ValueError: fewer than two configurations or seeds, or values without a partner.
    """
    rows, seeds = len(accuracies), len(accuracies[0]) if accuracies else 0
    if rows < 2 or seeds < 2 or any(len(row) != seeds for row in accuracies):
        raise ValueError("a paired test needs two configurations and two seeds or more, each with every seed")
    by_row = [statistics.fmean(row) for row in accuracies]
    by_seed = [statistics.fmean(column) for column in zip(*accuracies, strict=True)]
    overall = statistics.fmean(by_row)
    squares = sum(
        (value - mean - at_seed + overall) ** 2
        for row, mean in zip(accuracies, by_row, strict=True)
        for value, at_seed in zip(row, by_seed, strict=True)
    )
    freedom = (rows - 1) * (seeds - 1)
    return Noise(squares / freedom, freedom, seeds)
