"""The best trial so far, kept up to date as records change."""

from __future__ import annotations

import heapq
import math
from typing import TypeAlias

from hpo.ledger.records import TrialRecord
from hpo.search.rungs import depths
from hpo.spec.study import Spec

Merit: TypeAlias = tuple[bool, float, float, int]
"""Sorts the better of two trials first: whether it is not complete, then its depth, its rank, both negative, and its
number."""


class Leader:
    """The trial that `hpo.results.best.incumbent` would choose from all records."""

    def __init__(self, spec: Spec) -> None:
        self._depth = depths(spec)
        self._merits: dict[int, Merit] = {}
        """By trial, of those that may be the best so far."""
        self._heap: list[Merit] = []
        """All of `_merits`, and some that hold no more."""

    @property
    def number(self) -> int | None:
        """The best complete trial; while no trial is complete, the best of those that have trained longest."""
        while self._heap and self._merits.get(self._heap[0][3]) != self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0][3] if self._heap else None

    def update(self, trial: TrialRecord) -> None:
        """Take over the newest record of a trial."""
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
