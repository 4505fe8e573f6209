"""Seconds that trainings take, from those of the epochs so far.

The first epochs are no measure of the others: in LCBench the first one takes as long as two to eleven later ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hpo.search.landing import EpochSeconds
from hpo.search.unit_cube import Array, UnitCube

WARM = 4
"""Epochs after which the later half of a trial's epochs is taken for those to come."""
LEAST_SHARE = 0.05
"""A later epoch takes at least this share of the mean of all: a measured time may be 0."""
FLOOR = 0.1
"""An epoch counts as at least this share of the median one. Else trainings that cost next to nothing, which LCBench
has, would be begun by the hundred."""
FARTHEST = 0.01, 10.0
"""Bounds of the ratio of later epochs to the ones so far."""


def recent(seconds: Sequence[float], epochs: int) -> float:
    """Mean seconds of the later half of the first `epochs` epochs, or of all but the first if fewer than `WARM`.

    An overestimate after few epochs would let no trial seem to be complete in time, and so no trial get farther.
    """
    last = seconds[epochs // 2 : epochs] if epochs >= WARM else seconds[min(1, epochs - 1) : epochs]
    return max(sum(last) / len(last), LEAST_SHARE * sum(seconds[:epochs]) / epochs, 1e-9)


class Costs:
    """What trials cost, and new ones will."""

    def __init__(self, seconds: Mapping[int, Sequence[float]]) -> None:
        """
        Args:
            seconds: of the epochs so far, by the number of the trial; one epoch at least.
        """
        self._seconds = seconds
        self._ratios: dict[int, float] = {}
        self._floor = FLOOR * float(np.median([self._expected(one) for one in seconds.values()])) if seconds else 0.0

    def per_epoch(self, number: int) -> float:
        """Expected seconds of a later epoch of a trial."""
        return max(self._expected(self._seconds[number]), self._floor)

    def _expected(self, seconds: Sequence[float]) -> float:
        return recent(seconds, len(seconds)) * self._ratio(len(seconds))

    @property
    def first_epoch(self) -> float:
        """The seconds of a first epoch, in later ones: the median over the trials that have enough epochs."""
        return 1 / self._ratio(1)

    def _ratio(self, epochs: int) -> float:
        """Later epochs over the recent ones after so many: the median of those that came twice as far."""
        if epochs not in self._ratios:
            farther = [one for one in self._seconds.values() if len(one) >= max(2 * epochs, WARM)]
            ratios = [recent(one, len(one)) / recent(one, epochs) for one in farther]
            self._ratios[epochs] = float(np.median(np.clip(ratios, *FARTHEST))) if ratios else 1.0
        return self._ratios[epochs]

    def of_new(self, space: UnitCube, cube: Mapping[int, Array]) -> EpochSeconds:
        """A model of the seconds of a later epoch of any configuration.

        Args:
            cube: the points of the unit cube of all trials.
        """
        numbers = list(self._seconds)
        points = np.array([cube[number] for number in numbers])
        return EpochSeconds(space, points, np.array([self.per_epoch(number) for number in numbers]))
