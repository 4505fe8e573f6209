"""What the conductor must know of all trials, kept up to date as their records change.

The thread that schedules has no time to look at every trial of a large study at each report. What is here equals what
the records say: `hpo.ledger.records.StudyRecord`, `hpo.results.best.incumbent` and `hpo.results.gpu_hours.gpu_hours`.
"""

from __future__ import annotations

import heapq
import math
from typing import TypeAlias

from hpo.ledger.records import TrialRecord
from hpo.results.gpu_hours import Meter
from hpo.search.rungs import depths
from hpo.spec.study import Spec

Merit: TypeAlias = tuple[bool, float, float, int]
"""Sorts the better of two trials first: whether it is not complete, then its depth, its rank, both negative, and its
number."""


class Tally:
    """Running sums over the trials of one study. Each change of a trial costs the same however many there are."""

    def __init__(self, spec: Spec) -> None:
        self.started = 0
        """Trials that have begun."""
        self.reported = 0
        """Trials that have reported an epoch."""
        self._trials: dict[int, TrialRecord] = {}
        self._meter = Meter(spec.resources)
        self._depth = depths(spec)
        self._merits: dict[int, Merit] = {}
        """By trial, of those that may be the best so far."""
        self._heap: list[Merit] = []
        """All of `_merits`, and some that hold no more."""

    def update(self, trial: TrialRecord) -> None:
        """Take over the newest record of a trial."""
        before = self._trials.get(trial.number)
        self._trials[trial.number] = trial
        self.started += trial.started - (before is not None and before.started)
        self.reported += bool(trial.epochs) - (before is not None and bool(before.epochs))
        self._meter.update(trial)
        self._rank(trial)

    def gpu_hours(self, now: float) -> float:
        """GPU-hours of all trials until now, seconds since the epoch."""
        return self._meter.hours(now)

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the highest final score; of equal ones, the first."""
        leading = self.incumbent
        return leading if leading is not None and leading.complete else None

    @property
    def incumbent(self) -> TrialRecord | None:
        """The best complete trial; while no trial is complete, the best of those that have trained longest."""
        while self._heap and self._merits.get(self._heap[0][3]) != self._heap[0]:
            heapq.heappop(self._heap)
        return self._trials[self._heap[0][3]] if self._heap else None

    def _rank(self, trial: TrialRecord) -> None:
        merit = self._merit(trial)
        if merit == self._merits.get(trial.number):
            return
        if merit is None:
            del self._merits[trial.number]
            return
        self._merits[trial.number] = merit
        heapq.heappush(self._heap, merit)
        if len(self._heap) > 2 * len(self._merits) + 100:
            self._heap = sorted(self._merits.values())

    def _merit(self, trial: TrialRecord) -> Merit | None:
        rank = -math.inf if math.isnan(trial.rank) else trial.rank
        if trial.complete:
            return (False, 0.0, -rank, trial.number)
        if not trial.epochs or trial.status == "failed":
            return None
        return (True, -self._depth(trial), -rank, trial.number)
