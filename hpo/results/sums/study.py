"""All that a screen shows of the trials of a study, kept up to date as their records change."""

from __future__ import annotations

from collections.abc import Iterable

from hpo.ledger.records import TrialRecord
from hpo.results.sums.gaps import Gaps
from hpo.results.sums.leader import Leader
from hpo.results.sums.pace import Pace
from hpo.results.sums.parts import Counts, Failures, Part, Rungs
from hpo.spec.study import Spec


class Sums:
    """Sums over the newest records of a study's trials. One thread at a time uses them."""

    def __init__(self, spec: Spec, trials: Iterable[TrialRecord] = ()) -> None:
        self.counts, self.pace, self.failures = Counts(), Pace(), Failures()
        self.rungs, self.gaps = Rungs(spec), Gaps()
        self._parts: tuple[Part, ...] = (self.counts, self.pace, self.failures, self.rungs, self.gaps)
        self._leader = Leader(spec)
        self._trials: dict[int, TrialRecord] = {}
        self._baseline: int | None = None
        self.update(*trials)

    def update(self, *trials: TrialRecord) -> None:
        """Take over the newest records of some trials."""
        for trial in trials:
            number = trial.number
            before = self._trials.get(number)
            if trial is before:
                continue
            for part in self._parts:
                if before is not None:
                    part.add(before, -1)
                part.add(trial)
            self._leader.update(trial)
            self._trials[number] = trial
            if trial.enqueued and (self._baseline is None or number < self._baseline):
                self._baseline = number

    @property
    def running(self) -> list[TrialRecord]:
        """Running trials, the oldest first: they have passed the most rungs."""
        return [trial for trial in self.counts.unfinished if trial.status == "running"]

    @property
    def baseline(self) -> int | None:
        """Number of the baseline's trial; None if there is none."""
        return self._baseline

    @property
    def leader(self) -> int | None:
        """Number of the best trial so far, complete or not; None before the first epoch."""
        return self._leader.number

    def eminent(self, repeats: Iterable[TrialRecord]) -> tuple[TrialRecord, ...]:
        """The only trials that it takes to tell the best one: the baseline, the leader of the search, and those that a
        confirmation repeats; by number."""
        named = {self._baseline, self._leader.number, *(trial.repeat.trial for trial in repeats if trial.repeat)}
        return tuple(self._trials[number] for number in sorted(self._trials.keys() & named))
