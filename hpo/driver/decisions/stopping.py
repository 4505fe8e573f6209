"""When a study stops: which part of its budget is used up, computed from its record.

The texts are recorded (`StudyRecord.ended`). Each begins with the setting that a person raises to continue the study,
and a colon.
"""

from __future__ import annotations

from collections.abc import Callable

from hpo.ledger.outcome import SAME_FAILURES
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.gpu_hours import DEFINITION, gpu_hours
from hpo.spec.study import Spec


def used_up(study: StudyRecord, seconds: float, now: float | None = None) -> str | None:
    """The part of the budget that is used up, in words; None while something is left of every part.

    `budget.trials` is not checked here: trials that began within it train as if more would follow.

    Args:
        seconds: wall-clock of all drivers of the study.
        now: until when running trials have used GPUs, seconds since the epoch; None: until the newest record.
    """
    return reached(study.spec, seconds, lambda: gpu_hours(study, now), study.best)


def reached(spec: Spec, seconds: float, charged: Callable[[], float], best: TrialRecord | None) -> str | None:
    """The same from running sums.

    Args:
        seconds: wall-clock of all drivers of the study.
        charged: gives its GPU-hours.
        best: its best complete trial.
    """
    budget, goal = spec.budget, spec.objective
    if budget.hours is not None and seconds >= budget.hours * 3600:
        return f"budget.hours: reached the budget of {_count(budget.hours, 'hour')}"
    if budget.gpu_hours is not None and charged() >= budget.gpu_hours:
        return f"budget.gpu_hours: reached the budget of {_count(budget.gpu_hours, 'GPU-hour')} ({DEFINITION})"
    if budget.target is not None and best is not None and (best.value or 0.0) >= goal.score(budget.target):
        reached = goal.score(best.value or 0.0)
        return f"budget.target: trial {best.number} reached {reached:g}, and the target is {budget.target:g}"
    return None


def all_trials_ended(study: StudyRecord) -> str | None:
    """That every trial of the budget has ended, in words; None while one has not."""
    started = [trial for trial in study.trials if trial.started]
    ended = all(trial.ended for trial in started)
    if ended and len(started) >= study.spec.budget.trials:
        return f"budget.trials: reached the budget of {_count(len(started), 'trial')}"
    return None


def same_failures(count: int, failure: str) -> str:
    """That the first trials failed in the same way before their first epoch, in words."""
    return f"{SAME_FAILURES}the first {count} trials failed in the same way before their first epoch: {failure}"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
