"""ASHA at work in one study: how far a trial has come on the rungs, and the verdict on it there."""

from __future__ import annotations

from collections.abc import Iterable

from hpo.ledger.records import TrialRecord
from hpo.search.asha import Asha, RungDecision
from hpo.search.rungs import rung_resource, study_levels, training_rungs
from hpo.spec import configure as space
from hpo.spec.study import Spec
from trainers.api import EpochMetrics


class StudyAsha:
    """The rungs of a study, as its recorded verdicts have left them."""

    def __init__(self, spec: Spec, trials: Iterable[TrialRecord]) -> None:
        self._spec = spec
        self._base = spec.base()
        self._asha: Asha | None = None
        if spec.asha.enabled:
            self._asha = Asha(study_levels(spec.asha, spec.train.epochs), spec.asha.reduction_factor)
            for trial in trials:
                for decision in trial.rungs:
                    self._asha.restore(trial.number, decision)
        self.counts_compute = self._asha is not None and rung_resource(spec) == "compute"
        """Whether the trainer must report compute."""

    def decide(self, trial: TrialRecord, metrics: EpochMetrics) -> RungDecision | None:
        """The verdict after a new epoch of `trial`; None where it decides no rung, and always where ASHA is off."""
        if self._asha is None or metrics.epoch >= self._spec.train.epochs:
            return None
        if any(not one.keep for one in trial.rungs):
            return None  # a control that would have been stopped is no measure for those that got further
        resource = self._resource(trial, metrics)
        return None if resource is None else self._asha.decide(trial.number, resource, metrics.val_accuracy)

    def _resource(self, trial: TrialRecord, metrics: EpochMetrics) -> float | None:
        """How far a trial has come, in units of the rungs; None where its stage tells it not to be judged now."""
        if self._spec.asha.align == "stages":
            train = space.configure(self._base, trial.values).train
            return training_rungs(self._spec, train).get(metrics.epoch)
        return metrics.compute if self.counts_compute else float(metrics.epoch)
