"""What the conductor must know of all trials, kept up to date as their records change.

The thread that schedules has no time to look at every trial of a large study at each report. What is here equals what
the records say: `hpo.ledger.records.StudyRecord`, `hpo.results.best.incumbent` and `hpo.results.gpu_hours.gpu_hours`.
"""

from __future__ import annotations

from hpo.ledger.records import TrialRecord
from hpo.results.gpu_hours import Meter
from hpo.results.sums.leader import Leader
from hpo.spec.study import Spec


class Tally:
    """Running sums over the trials of one study. Each change of a trial costs the same however many there are."""

    def __init__(self, spec: Spec) -> None:
        self.started = 0
        """Trials that have begun."""
        self.reported = 0
        """Trials that have reported an epoch."""
        self._trials: dict[int, TrialRecord] = {}
        self._meter = Meter(spec.resources)
        self._leader = Leader(spec)

    def update(self, trial: TrialRecord) -> None:
        """Take over the newest record of a trial."""
        before = self._trials.get(trial.number)
        self._trials[trial.number] = trial
        self.started += trial.started - (before is not None and before.started)
        self.reported += bool(trial.epochs) - (before is not None and bool(before.epochs))
        self._meter.update(trial)
        self._leader.update(trial)

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials by number."""
        return tuple(self._trials[number] for number in sorted(self._trials))

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
        number = self._leader.number
        return None if number is None else self._trials[number]
