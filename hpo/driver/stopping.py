"""When a study has had enough: what of its budget is used up, computed from its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.writer import Ledger
from hpo.results.confirmation import seed_noise
from hpo.search.regret_bound import regret_bound


def reached(study: StudyRecord, seconds: float) -> str | None:
    """Which part of the budget is used up, in words, None while there is something left of each.

    The number of trials is not among them: those that were begun within it are trained as if there were more to come.

    Args:
        seconds: wall-clock of all the study's drivers.
    """
    budget = study.spec.budget
    if budget.hours is not None and seconds >= budget.hours * 3600:
        return f"budget.hours: {budget.hours:g} hours are used up"
    if budget.gpu_hours is not None and gpu_seconds(study) >= budget.gpu_hours * 3600:
        return f"budget.gpu_hours: {budget.gpu_hours:g} GPU-hours are used up"
    best = study.best
    if budget.target is not None and best is not None and (best.value or 0.0) >= budget.target:
        return f"budget.target: trial {best.number} reached {best.value:g}, asked for was {budget.target:g}"
    return None


def gpu_seconds(study: StudyRecord) -> float:
    """GPU-seconds of all recorded epochs; a fraction of a GPU counts as such."""
    asked = study.spec.resources.gpus
    each = 1.0 if asked == "auto" else float(asked)
    return each * sum(trial.seconds for trial in study.trials if _on_gpu(trial))


def _on_gpu(trial: TrialRecord) -> bool:
    return any((attempt.device or "").startswith("cuda") for attempt in trial.attempts)


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
