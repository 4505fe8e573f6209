"""The Pareto front of a study with several objectives, and how to choose a trial from it."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.errors import UsageError
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.spec.objectives import Choice, objectives, values


def front(study: StudyRecord) -> list[TrialRecord]:
    """The complete trials that no other trial dominates, the most accurate first.

    A trial dominates another if it is at least as good in every objective, and better in one. Pruned trials are left
    out, because their accuracy is that of a shorter training.
    """
    names = study.spec.objectives
    complete = [trial for trial in study.trials if trial.complete and len(values(trial.metrics, names)) == len(names)]
    scores = {trial.number: _scores(trial, names) for trial in complete}
    kept: list[TrialRecord] = []
    for trial in sorted(complete, key=lambda trial: ([-score for score in scores[trial.number]], trial.number)):
        # In this order only an earlier trial can dominate; if a dropped one does, so does a kept one.
        if not any(_dominates(scores[other.number], scores[trial.number]) for other in kept):
            kept.append(trial)
    return kept


def _scores(trial: TrialRecord, names: Sequence[Choice]) -> tuple[float, ...]:
    pairs = zip(objectives(names), values(trial.metrics, names), strict=True)
    return tuple(objective.score(value) for objective, value in pairs)


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def knee(trials: Sequence[TrialRecord], names: Sequence[Choice]) -> TrialRecord:
    """The trial of a front with the greatest distance from the plane through the best trials of each objective.

    Every objective is scaled to the range of the front (Das, "On characterizing the 'knee' of the Pareto curve",
    Structural Optimization 18, 1999), so the distance grows with the sum.
    """
    columns = list(zip(*(_scores(trial, names) for trial in trials), strict=True))
    scaled = [[(x - min(column)) / ((max(column) - min(column)) or 1.0) for x in column] for column in columns]
    sums = [sum(row) for row in zip(*scaled, strict=True)]
    return trials[sums.index(max(sums))]


def choose(study: StudyRecord, pick: str) -> TrialRecord:
    """Choose a trial of the front.

    Args:
        pick: `knee`, `max:val_accuracy`, `min:params` etc., or the place on the front, from 0.

    Raises:
        UsageError: no trial is complete, or `pick` is something else.
    """
    names, trials = study.spec.objectives, front(study)
    extremes = [f"{'max' if objective.maximize else 'min'}:{objective.name}" for objective in objectives(names)]
    if not trials:
        raise UsageError(f"study {study.name} has no complete trial yet, so its Pareto front is empty")
    if pick == "knee":
        return knee(trials, names)
    if pick in extremes:
        return max(trials, key=lambda trial: _scores(trial, names)[extremes.index(pick)])
    if pick.isascii() and pick.isdigit() and int(pick) < len(trials):
        return trials[int(pick)]
    raise UsageError(
        f"--pick {pick}: must be knee, {', '.join(extremes)}, or a place on the front from 0 to {len(trials) - 1}; "
        f"the study's status shows the front"
    )


def table(study: StudyRecord) -> tuple[list[str], list[list[str]]]:
    """The front as a header and rows of text; no rows while no trial is complete."""
    chosen = objectives(study.spec.objectives)
    rows = [
        [str(index), str(trial.number), *(objective.show(objective.of(trial.metrics)) for objective in chosen)]
        for index, trial in enumerate(front(study))
    ]
    return ["place", "trial", *(objective.label for objective in chosen)], rows
