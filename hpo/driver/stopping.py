"""When a study has had enough: what of its budget is used up, computed from its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.writer import Ledger
from hpo.results.confirmation import seed_noise
from hpo.results.gpu_hours import DEFINITION, gpu_hours
from hpo.search.regret_bound import regret_bound


def reached(study: StudyRecord, seconds: float, now: float | None = None) -> str | None:
    """The part of the budget that is used up, in words; None while something is left of every part.

    `budget.trials` is not checked here: trials that began within it train as if more were to come.

    Args:
        seconds: wall-clock of all the study's drivers.
        now: until when running trials have used GPUs, seconds since the epoch; None: until the newest record.
    """
    budget = study.spec.budget
    if budget.hours is not None and seconds >= budget.hours * 3600:
        return f"budget.hours: {budget.hours:g} hours are used up"
    if budget.gpu_hours is not None and gpu_hours(study, now) >= budget.gpu_hours:
        return f"budget.gpu_hours: {budget.gpu_hours:g} GPU-hours are used up ({DEFINITION})"
    best = study.best
    if budget.target is not None and best is not None and (best.value or 0.0) >= budget.target:
        return f"budget.target: trial {best.number} reached {best.value:g}, asked for was {budget.target:g}"
    return None


class Patience:
    """`budget.patience` of an open study: from its ledger alone, so that it makes no difference how often the study
    was resumed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left: dict[int, tuple[float, float] | None] = {}
        """By the newest of the complete trials; reckoning it takes a Gaussian process."""

    def exhausted(self) -> str | None:
        """Why the study ends, in words; None while it goes on. To be asked when a trial is complete."""
        patience = self._ledger.spec.budget.patience
        complete = [trial for trial in self._ledger.trials if trial.complete]
        if patience is None or len(complete) < patience:
            return None
        complete.sort(key=lambda trial: (trial.finished or 0.0, trial.number))
        for fewer in range(patience):
            left = self._gain_left(complete[: len(complete) - fewer])
            if left is None or left[0] >= left[1]:
                return None
        bound, noise = self._gain_left(complete) or (0.0, 0.0)
        return (
            f"budget.patience: for {patience} complete trials in a row no more than {bound:.4f} could be gained, "
            f"less than the noise of {noise:.4f} between seeds"
        )

    def _gain_left(self, complete: Sequence[TrialRecord]) -> tuple[float, float] | None:
        """What could still be gained when these trials were complete and no other, and the noise between seeds as
        they tell it; None where either cannot be told."""
        newest = complete[-1].number
        if newest not in self._left:
            numbers = {trial.number for trial in complete}
            finished = [trial for trial in self._ledger.finished_trials() if trial.number in numbers]
            bound = regret_bound(finished, self._ledger.spec.seed)
            noise = seed_noise(dataclasses.replace(self._ledger.study, trials=tuple(complete)))
            self._left[newest] = None if bound is None or noise is None else (bound, noise)
        return self._left[newest]
