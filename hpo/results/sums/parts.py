"""Sums that trials are added to and taken from: `add` a record with 1, and with -1 when another takes its place."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from hpo.ledger.outcome import Ending
from hpo.ledger.records import TrialRecord
from hpo.search.rungs import deepest_rungs, study_levels
from hpo.spec.study import Spec
from hpo.text import first_line


class Part(Protocol):
    """Something that is summed over the trials of a study."""

    def add(self, trial: TrialRecord, times: int = 1) -> None:
        """Count a record (1), or no longer (-1)."""


PartT = TypeVar("PartT", bound=Part)


def summed(part: PartT, trials: Iterable[TrialRecord]) -> PartT:
    """The part with all the trials added."""
    for trial in trials:
        part.add(trial)
    return part


class Counts:
    """How many trials are where, and how far they have come."""

    def __init__(self) -> None:
        self.statuses = Counter[str]()
        self.ended = 0
        """Trials that train no more, unless landing takes them up."""
        self.epochs = 0
        """Of these trials."""
        self.newest = 0.0
        """When anything of a trial was recorded last, seconds since the epoch."""
        self._unfinished: dict[int, TrialRecord] = {}

    @property
    def trials(self) -> int:
        """All trials."""
        return self.ended + len(self._unfinished)

    @property
    def unfinished(self) -> list[TrialRecord]:
        """The trials that wait, train or may train again, by number."""
        return [self._unfinished[number] for number in sorted(self._unfinished)]

    def add(self, trial: TrialRecord, times: int = 1) -> None:
        """Count a record (1), or no longer (-1)."""
        self.statuses[trial.status] += times
        self.newest = max(self.newest, trial.newest)
        if trial.ended:
            self.ended += times
            self.epochs += times * len(trial.epochs)
        elif times > 0:
            self._unfinished[trial.number] = trial
        else:
            del self._unfinished[trial.number]


class Failures:
    """The kinds of failures and their trials."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}

    def add(self, trial: TrialRecord, times: int = 1) -> None:
        """Count a record (1), or no longer (-1)."""
        if trial.outcome is None or trial.outcome.ending is not Ending.FAILED:
            return
        numbers = self._numbers.setdefault(first_line(trial.outcome.reason), [])
        if times > 0:
            bisect.insort(numbers, trial.number)
        else:
            numbers.remove(trial.number)

    @property
    def kinds(self) -> list[tuple[list[int], str]]:
        """(numbers of the trials, first line of the reason) for each kind of failure, the newest first."""
        kinds = [(numbers, reason) for reason, numbers in self._numbers.items() if numbers]
        return sorted(kinds, key=lambda item: -item[0][-1])


@dataclass(frozen=True)
class Survival:
    """How many trials reached one rung, and what happened to them there and before the next one."""

    level: float
    """In units of the study's ASHA resource."""
    reached: int
    """The sum of `passed` and `stopped`."""
    passed: int
    """Trials that trained on, controls included. They reach the next rung, or the end, but for those in `left`."""
    controls: int
    """The controls among them: ASHA never stops these, also where it would have stopped another trial."""
    stopped: int
    left: int
    """Trials that passed, but failed or have not ended before the next rung, or before the end."""


class Rungs:
    """How many trials have come how far."""

    def __init__(self, spec: Spec) -> None:
        self._enabled = spec.asha.enabled
        self._levels = study_levels(spec.asha, spec.train.epochs)
        self._deepest = deepest_rungs(spec) if self._enabled else None
        self._depths, self._controls = Counter[float](), Counter[float]()
        self._stopped, self._judged = Counter[float | None](), Counter[float]()

    def add(self, trial: TrialRecord, times: int = 1) -> None:
        """Count a record (1), or no longer (-1)."""
        if self._deepest is None:
            return
        # The whole training is the last rung, 0 is before the first one.
        depth = math.inf if trial.complete else self._deepest(trial) or 0.0
        self._depths[depth] += times
        self._controls[depth] += times * trial.control
        self._stopped[trial.pruned_at] += times
        for level in trial.judged:
            self._judged[level] += times

    @property
    def survival(self) -> list[Survival]:
        """All rungs in ascending order, also those that no trial has reached; none without pruning."""
        if not self._enabled:
            return []
        levels = sorted({*self._levels, *(level for level, trials in self._judged.items() if trials)})
        here = [_beyond(self._depths, level) for level in [*levels, math.inf]]
        return [
            Survival(
                level,
                reached=count,
                passed=count - self._stopped[level],
                controls=_beyond(self._controls, level),
                stopped=self._stopped[level],
                left=count - self._stopped[level] - after,
            )
            for level, count, after in zip(levels, here[:-1], here[1:], strict=True)
        ]


def _beyond(depths: Counter[float], level: float) -> int:
    return sum(count for depth, count in depths.items() if depth >= level)
