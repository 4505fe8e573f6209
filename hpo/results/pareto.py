"""What a study may optimise beside validation accuracy, and which of its complete trials nobody beats in everything."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hpo.errors import UsageError
from hpo.ledger.records import StudyRecord, TrialRecord
from trainers.api import EpochMetrics

Name: TypeAlias = Literal["val_accuracy", "seconds_per_epoch", "images_per_s", "params", "macs"]


@dataclass(frozen=True)
class Objective:
    """One objective. Its direction is part of its meaning."""

    name: str
    field: str
    """The field of `EpochMetrics` it is read from."""
    maximize: bool
    mean: bool
    """Over the epochs, for what varies with the image size; else the newest value counts."""
    label: str
    """With unit, for axes and tables."""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna calls it."""
        return "maximize" if self.maximize else "minimize"

    def value(self, column: Sequence[float | None]) -> float | None:
        """From the field's values of a trial's epochs, oldest first; None where none is known and finite."""
        known = [value for value in column if value is not None and math.isfinite(value)]
        if not known:
            return None
        return statistics.fmean(known) if self.mean else known[-1]

    def of(self, trial: TrialRecord) -> float | None:
        """Of a trial as it stands."""
        return self.value([getattr(epoch.metrics, self.field) for epoch in trial.epochs])

    def score(self, value: float) -> float:
        """Larger is better."""
        return value if self.maximize else -value

    def show(self, value: float | None) -> str:
        """For people, without the unit."""
        if value is None:
            return "–"
        if self.name == "val_accuracy":
            return f"{100 * value:.2f} %"
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


OBJECTIVES: Mapping[str, Objective] = {
    one.name: one
    for one in (
        Objective("val_accuracy", "val_accuracy", True, False, "validation accuracy"),
        Objective("seconds_per_epoch", "seconds", False, True, "seconds per epoch"),
        Objective("images_per_s", "images_per_second", True, True, "images per second"),
        Objective("params", "params", False, False, "parameters"),
        Objective("macs", "macs", False, False, "multiply-accumulates per image"),
    )
}


def objectives(names: Sequence[str]) -> list[Objective]:
    """The objectives of these names, in this order."""
    return [OBJECTIVES[name] for name in names]


def unreported(names: Sequence[str], metrics: EpochMetrics) -> list[str]:
    """Fields that objectives need and an epoch's report lacks."""
    return [one.field for one in objectives(names) if one.value([getattr(metrics, one.field)]) is None]


def values(trial: TrialRecord, names: Sequence[str]) -> list[float]:
    """One value per objective of a trial whose epochs reported them all."""
    found = [one.of(trial) for one in objectives(names)]
    return [value for value in found if value is not None]


# ---------------------------------------------------------------------------------------------- the front


def front(study: StudyRecord) -> list[TrialRecord]:
    """Complete trials that no other one equals or beats in every objective and beats in one; the most accurate first.

    Pruned trials have no place in it: their accuracy is that of a shorter training.
    """
    names = study.spec.objectives
    complete = [trial for trial in study.trials if trial.complete and len(values(trial, names)) == len(names)]
    scores = {trial.number: _scores(trial, names) for trial in complete}
    kept: list[TrialRecord] = []
    for trial in sorted(complete, key=lambda one: ([-score for score in scores[one.number]], one.number)):
        # In this order only an earlier one can dominate, and if one does, so does one that was kept.
        if not any(_dominates(scores[other.number], scores[trial.number]) for other in kept):
            kept.append(trial)
    return kept


def _scores(trial: TrialRecord, names: Sequence[str]) -> tuple[float, ...]:
    pairs = zip(objectives(names), values(trial, names), strict=True)
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
        [str(index), str(trial.number), *(one.show(one.of(trial)) for one in chosen)]
        for index, trial in enumerate(front(study))
    ]
    return ["place", "trial", *(one.label for one in chosen)], rows
