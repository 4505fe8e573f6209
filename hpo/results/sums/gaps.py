"""How much the last epochs of full trainings differ, kept up to date as trials complete."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from hpo.ledger.records import TrialRecord
from hpo.results.sums.exact import UNIT, exact


class Gaps:
    """Changes between the last epochs of full trainings, which tell how noisy a training is.

    They are taken over the last quarter of the epochs, at least over three. Trainings that ASHA could have stopped are
    selected for their values, so only controls count if there are two or more.
    """

    def __init__(self, trials: Iterable[TrialRecord] = ()) -> None:
        self._controls, self._all = _Spread(), _Spread()
        for trial in trials:
            self.add(trial)

    def add(self, trial: TrialRecord, times: int = 1) -> None:
        """Count a record (1), or no longer (-1)."""
        if not trial.complete:
            return
        values = [epoch.value for epoch in trial.epochs]
        gaps = [b - a for a, b in itertools.pairwise(values[-max(3, len(values) // 4) :])]
        for spread in (self._all, self._controls) if trial.control else (self._all,):
            spread.add(gaps, times)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the gaps; None for fewer than two."""
        return (self._controls if self._controls.trainings > 1 else self._all).deviation


class _Spread:
    """The exact sums that a standard deviation needs, so that what is taken away leaves no trace of rounding."""

    def __init__(self) -> None:
        self.trainings = self._count = 0
        self._sum = self._squares = 0

    def add(self, values: Sequence[float], times: int) -> None:
        parts = [exact(value) for value in values if math.isfinite(value)]
        self.trainings += times
        self._count += times * len(parts)
        self._sum += times * sum(parts)
        self._squares += times * sum(part * part for part in parts)

    @property
    def deviation(self) -> float | None:
        if self._count < 2:
            return None
        squares = self._count * self._squares - self._sum**2
        return math.sqrt(Fraction(squares, self._count * (self._count - 1) * UNIT**2))
