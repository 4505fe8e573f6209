"""The progressive stages of recorded trials, and the epochs at which trials can be compared."""

from __future__ import annotations

import math

from hpo.ledger.records import EpochRecord, StudyRecord, TrialRecord
from hpo.search.rungs import DECIDE_SIZES, rung_resource, study_levels
from hpo.spec.configure import assign
from trainers.api import Progressive
from trainers.schedule import Stage, compute, stages


class Stages:
    """Stage plans of the trials of one study. Trials with the same sizes share a plan."""

    def __init__(self, study: StudyRecord) -> None:
        self._epochs = study.spec.train.epochs
        # No other searched setting changes the sizes, so one base serves all trials.
        self._base = {"train": study.spec.base().train}
        self._plans: dict[tuple[object, ...], tuple[Stage, ...]] = {}
        self.reported = any(epoch.metrics.stage is not None for trial in study.trials for epoch in trial.epochs[:1])
        """Whether the trainer reports stages. The shipped trainer does; other trainers need not."""

    def of(self, trial: TrialRecord) -> tuple[Stage, ...]:
        """The stages of a full training with the trial's configuration."""
        chosen = {name: trial.values[name] for name in sorted(DECIDE_SIZES) if name in trial.values}
        key = tuple(sorted(chosen.items()))
        if key not in self._plans:
            progressive: Progressive = assign(self._base, chosen)["train"].progressive
            self._plans[key] = stages(progressive, self._epochs)
        return self._plans[key]

    def remaining(self, trial: TrialRecord) -> float:
        """The cost of the rest of the full training, divided by the cost so far; 0 before the first epoch."""
        done = len(trial.epochs)
        if not done:
            return 0.0
        if not self.reported:
            return (self._epochs - done) / done
        plan = self.of(trial)
        return compute(plan, self._epochs) / compute(plan, min(done, self._epochs)) - 1


def rungs(study: StudyRecord) -> tuple[float, ...]:
    """The levels of the rungs in units of the study's resource; empty if ASHA is off."""
    return study_levels(study.spec.asha, study.spec.train.epochs)


def by_compute(study: StudyRecord) -> bool:
    """Whether the rungs count compute and every epoch reported its compute."""
    return rung_resource(study.spec) == "compute" and all(
        epoch.metrics.compute is not None for trial in study.trials for epoch in trial.epochs
    )


def resource(epoch: EpochRecord, compute_counts: bool) -> float:
    """The epochs that a trial had trained at this report, or the compute that it had used."""
    return float(epoch.metrics.compute or 0.0) if compute_counts else float(epoch.metrics.epoch)


def value_after(trial: TrialRecord, epoch: int) -> float | None:
    """Validation accuracy after that many epochs, None if the trial ended before."""
    return trial.epochs[epoch - 1].value if 0 < epoch <= len(trial.epochs) else None


def reached(study: StudyRecord, epoch: int) -> list[TrialRecord]:
    """The trials that trained for at least that many epochs, without those that have settings outside the space."""
    return [trial for trial in study.trials if len(trial.epochs) >= epoch and not trial.settings]


FEW_TRIALS, ENOUGH_TRIALS = 8, 20
"""With fewer trials than the first number the figures of parameters show nothing; from the second on they are fairly
reliable."""


def comparable_epoch(study: StudyRecord) -> int | None:
    """The latest rung, or the end, that `ENOUGH_TRIALS` trials reached, else the latest that `FEW_TRIALS` reached."""
    return latest_epoch(study, ENOUGH_TRIALS) or latest_epoch(study, FEW_TRIALS)


def latest_epoch(study: StudyRecord, least: int) -> int | None:
    """The latest rung, or the end, that at least `least` trials reached; None if there is none.

    Accuracies can be compared after the same number of epochs. Trials reach a rung that counts compute after different
    numbers of epochs; then the level of the rung is taken as a number of epochs.
    """
    levels = {math.ceil(level) for level in rungs(study)} | {study.spec.train.epochs}
    return next((level for level in sorted(levels, reverse=True) if len(reached(study, level)) >= least), None)
