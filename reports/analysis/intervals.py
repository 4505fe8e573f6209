"""Intervals of accuracies measured on a finite number of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054
"""Quantile of the standard normal distribution for two-sided 95 %."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval, all as fractions."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def wilson(share: float, count: int, z: float = Z_95) -> Estimate:
    """Wilson's score interval of a share of `count` independent images (JASA 22, 1927).

    Raises:
        ValueError: no image, or a share outside 0 to 1.
    """
    if count < 1 or not 0 <= share <= 1:
        raise ValueError(f"no interval of a share of {share} among {count}")
    shrink = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrink
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / shrink
    # At 0 and 1 the bound is exact; rounding must not move it past the value.
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def difference(first: float, second: float, first_count: int, second_count: int) -> Estimate:
    """`first - second` with Newcombe's interval from two Wilson intervals (Stat. Med. 17, 1998, method 10).

    It takes the two for independent. Two models scored on the same images err together, so there the true
    interval is narrower than this one.
    """
    one, two = wilson(first, first_count), wilson(second, second_count)
    gap = first - second
    low = gap - math.hypot(one.value - one.low, two.high - two.value)
    high = gap + math.hypot(one.high - one.value, two.value - two.low)
    return Estimate(gap, low, high)
