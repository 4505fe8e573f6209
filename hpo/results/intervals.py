"""95 % intervals: of means over seeds, and of accuracies that were measured on a finite number of images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hpo.spec.objectives import Objective

Z_95 = 1.959963984540054
"""Quantile of the standard normal distribution for two-sided 95 %."""


@dataclass(frozen=True)
class Interval:
    """A value, for example a mean, and its 95 % interval, all as fractions."""

    mean: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def in_units_of(self, objective: Objective) -> Interval:
        """An interval of scores as one of the objective's values."""
        return self if objective.maximize else Interval(-self.mean, -self.high, -self.low)

    def within(self, least: float, most: float) -> Interval:
        """The interval, cut at the least and the greatest possible value."""
        return replace(self, low=max(least, self.low), high=min(most, self.high))


def wilson(share: float, count: int, z: float = Z_95) -> Interval:
    """Wilson's score interval of a share among `count` independent images (JASA 22, 1927).

    Raises:
        ValueError: `count` is below 1, or `share` is outside 0 to 1.
    """
    if count < 1 or not 0 <= share <= 1:
        raise ValueError(
            f"no interval for a share of {share} among {count} images: the share must be 0 to 1, the count at least 1"
        )
    shrink = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrink
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / shrink
    # At 0 and 1 the bound equals the share; rounding errors must not move it past the share.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def difference(first: float, second: float, first_count: int, second_count: int) -> Interval:
    """`first - second` with Newcombe's interval from two Wilson intervals (Stat. Med. 17, 1998, method 10).

    The method assumes that the two are independent. Two models that are scored on the same images make many of the
    same errors, so their true interval is narrower.
    """
    a, b = wilson(first, first_count), wilson(second, second_count)
    gap = first - second
    low = gap - math.hypot(a.mean - a.low, b.high - b.mean)
    high = gap + math.hypot(a.high - a.mean, b.mean - b.low)
    return Interval(gap, low, high)
