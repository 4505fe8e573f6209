"""What a study may optimise beside validation accuracy, and which of its complete trials nobody beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.errors import UsageError
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.spec.objectives import objectives, values

# ---------------------------------------------------------------------------------------------- the front


def front(study: StudyRecord) -> list[TrialRecord]:
    """Complete trials that no other one equals or beats in every objective and beats in one; the most accurate first.

    Pruned trials have no place in it: their accuracy is that of a shorter training.
    """
    names = study.spec.objectives
    complete = [trial for trial in study.trials if trial.complete and len(values(trial.metrics, names)) == len(names)]
    scores = {trial.number: _scores(trial, names) for trial in complete}
    kept: list[TrialRecord] = []
    for trial in sorted(complete, key=lambda one: ([-score for score in scores[one.number]], one.number)):
        # In this order only an earlier one can dominate, and if one does, so does one that was kept.
        if not any(_dominates(scores[other.number], scores[trial.number]) for other in kept):
            kept.append(trial)
    return kept


def _scores(trial: TrialRecord, names: Sequence[str]) -> tuple[float, ...]:
    pairs = zip(objectives(names), values(trial.metrics, names), strict=True)
    return tuple(one.score(value) for one, value in pairs)


def _dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def knee(trials: Sequence[TrialRecord], names: Sequence[str]) -> TrialRecord:
    """Where a front bulges most: the greatest distance from the plane through the best of each objective.

    Every objective is scaled to the front's range (Das, "On characterizing the 'knee' of the Pareto curve",
    Structural Optimization 18, 1999), so the distance grows with the sum.
    """
    columns = list(zip(*(_scores(trial, names) for trial in trials), strict=True))
    scaled = [[(x - min(column)) / ((max(column) - min(column)) or 1.0) for x in column] for column in columns]
    sums = [sum(row) for row in zip(*scaled, strict=True)]
    return trials[sums.index(max(sums))]


def choose(study: StudyRecord, pick: str) -> TrialRecord:
    """A trial of the front: `knee`, `max:val_accuracy`, `min:params` and the like, or its place there, from 0.

    Raises:
        UsageError: no trial is complete, or `pick` is none of these.
    """
    names, trials = study.spec.objectives, front(study)
    ways = [f"{'max' if one.maximize else 'min'}:{one.name}" for one in objectives(names)]
    if not trials:
        raise UsageError(f"study {study.name} has no complete trial yet, so it has no front to pick from")
    if pick == "knee":
        return knee(trials, names)
    if pick in ways:
        return max(trials, key=lambda trial: _scores(trial, names)[ways.index(pick)])
    if pick.isascii() and pick.isdigit() and int(pick) < len(trials):
        return trials[int(pick)]
    raise UsageError(
        f"--pick {pick} is none of knee, {', '.join(ways)} and the places 0 to {len(trials) - 1} on the front, "
        f"which `hpo status {study.name}` shows"
    )


def table(study: StudyRecord) -> tuple[list[str], list[list[str]]]:
    """The front for people: header and rows; empty rows while no trial is complete."""
    chosen = objectives(study.spec.objectives)
    rows = [
        [str(index), str(trial.number), *(one.show(one.of(trial.metrics)) for one in chosen)]
        for index, trial in enumerate(front(study))
    ]
    return ["place", "trial", *(one.label for one in chosen)], rows
