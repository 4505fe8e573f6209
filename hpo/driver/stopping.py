"""When a study has had enough: what of its budget is used up, computed from its record."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from hpo.ledger.records import StudyRecord, TrialRecord


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


def seed_noise(study: StudyRecord) -> float | None:
    """The standard deviation of a full training's accuracy that is nothing but luck; None where nothing tells.

    Measured by the confirmation, within its configurations and over its seeds. Without one, from epoch to epoch over
    the last quarter of each full training that nobody could stop (the controls, else all complete trials): trainings
    hardly improve there, and what two successive epochs differ by is the noise of both.
    """
    repeats: dict[int, list[float]] = {}
    for trial in study.repeats:
        if trial.repeat is not None and trial.complete and trial.value is not None:
            repeats.setdefault(trial.repeat.trial, []).append(trial.value)
    pooled = pooled_deviation(list(repeats.values()))
    if pooled is not None:
        return pooled
    complete = [trial for trial in study.trials if trial.complete]
    controls = [trial for trial in complete if trial.control] if sum(one.control for one in complete) > 1 else complete
    gaps = [gap for trial in controls for gap in _last_gaps(trial)]
    return statistics.stdev(gaps) / math.sqrt(2) if len(gaps) > 1 else None


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation within groups of values around their own means; None without two of one group."""
    freedom = sum(len(group) - 1 for group in groups if group)
    if freedom < 1:
        return None
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups if group for value in group)
    return math.sqrt(squares / freedom)


def _last_gaps(trial: TrialRecord) -> list[float]:
    values = [epoch.metrics.val_accuracy for epoch in trial.epochs]
    return [b - a for a, b in itertools.pairwise(values[-max(3, len(values) // 4) :])]
