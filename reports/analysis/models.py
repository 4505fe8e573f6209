"""Which model for which budget: the best trial of each model, and what it costs to train and to use."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import confirmation
from hpo.results.intervals import difference
from hpo.results.tables.trials import worker_seconds
from hpo.results.winner import Gain, validation_images
from hpo.spec.configure import configure
from hpo.spec.study import SHIPPED_TRAINER
from trainers import schedule

NAME = "model.name"
Cost: TypeAlias = Literal["macs", "seconds"]
UNEVEN = 2
"""So many times as long an epoch may be as another like it, before the page says so."""
COSTS: tuple[Cost, ...] = ("macs", "seconds")


@dataclass(frozen=True)
class Candidate:
    """What the trials of one model say."""

    name: str
    """timm's name."""
    trials: tuple[TrialRecord, ...]
    """Those that have started."""
    confirmed: float | None = None
    """The highest mean score of its configurations over new seeds; None if the confirmation, if any, has none."""

    @functools.cached_property
    def complete(self) -> list[TrialRecord]:
        """The trials that trained for all their epochs."""
        return [trial for trial in self.trials if trial.complete]

    @functools.cached_property
    def best(self) -> TrialRecord | None:
        """The complete trial with the highest score; of equal ones, the first."""
        return max(self.complete, key=lambda trial: (trial.rank, -trial.number), default=None)

    @property
    def score(self) -> float | None:
        """The score of the best trial."""
        return self.best.value if self.best else None

    @property
    def params(self) -> int | None:
        """Number of parameters, of the best trial or else of any."""
        return next((one.last.params for one in self._telling if one.last), None)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of the forward pass of one image at the evaluation size, likewise."""
        return next((one.last.macs for one in self._telling if one.last), None)

    @property
    def seconds(self) -> float | None:
        """Worker time of the best trial's epochs."""
        return trial_cost(self.best, "seconds") if self.best else None

    @property
    def epoch_seconds(self) -> float | None:
        """The median over the epochs of all its trials."""
        every = [one.seconds for trial in self.trials for one in trial.metrics if one.seconds is not None]
        return statistics.median(every) if every else None

    @property
    def _telling(self) -> Sequence[TrialRecord]:
        return [self.best] if self.best else self.trials


@dataclass(frozen=True)
class Step:
    """From this cost on a model is the best choice."""

    candidate: Candidate
    cost: float
    lead: Gain | None
    """How much better it is than the cheaper model before it; None for the cheapest one."""


def trial_cost(trial: TrialRecord, of: Cost) -> float | None:
    """What the trial's model costs to use (`macs` of one image), or what its training took (`seconds`); None if that
    is not known."""
    return worker_seconds(trial) if of == "seconds" else trial.last.macs if trial.last else None


def candidates(study: StudyRecord) -> list[Candidate]:
    """The models of a study's trials, the highest score first; empty if all have the same."""
    fixed = study.spec.base().model.name
    trials: dict[str, list[TrialRecord]] = {}
    for trial in study.trials:
        if trial.started:
            trials.setdefault(str(trial.assigned.get(NAME, fixed)), []).append(trial)
    if len(trials) < 2:
        return []
    again = _confirmed(study)
    rows = [
        Candidate(name, tuple(own), max((again[one.number] for one in own if one.number in again), default=None))
        for name, own in trials.items()
    ]
    return sorted(rows, key=lambda row: (row.score is not None, row.score or 0.0), reverse=True)


def _confirmed(study: StudyRecord) -> dict[int, float]:
    """The means over new seeds by the number of the trial in the search."""
    result = confirmation(study)
    return {entry.trial: entry.mean for entry in (result.ranking if result else ()) if entry.mean is not None}


def steps(study: StudyRecord, rows: Sequence[Candidate], of: Cost) -> list[Step]:
    """The Pareto front of score against cost, the cheapest model first: each is better than all cheaper ones."""
    known = [(cost, row) for row in rows if row.best and (cost := trial_cost(row.best, of)) is not None]
    found: list[Step] = []
    for cost, row in sorted(known, key=lambda pair: (pair[0], -(pair[1].score or 0.0))):
        if not found or _score(row) > _score(found[-1].candidate):
            found.append(Step(row, cost, _lead(study, row, found[-1].candidate) if found else None))
    return found


def worth_it(study: StudyRecord, front: Sequence[Step]) -> list[Step]:
    """The steps of a front that are not within noise of a cheaper step of the result: a lead that may be chance is not
    worth its cost. Where the noise is unknown, all of them."""
    kept = list(front[:1])
    for step in front[1:]:
        lead = _lead(study, step.candidate, kept[-1].candidate)
        if not lead.within_noise:
            kept.append(replace(step, lead=lead))
    return kept


def short_name(row: Candidate, rows: Sequence[Candidate]) -> str:
    """timm's name without the tag of the weights, if no other model has the same."""
    name = row.name.partition(".")[0]
    return name if sum(other.name.partition(".")[0] == name for other in rows) == 1 else row.name


def _score(row: Candidate) -> float:
    assert row.score is not None
    return row.score


def _lead(study: StudyRecord, row: Candidate, cheaper: Candidate) -> Gain:
    value, images = _score(row) - _score(cheaper), validation_images(study)
    interval = difference(_score(row), _score(cheaper), images, images) if images else None
    return Gain(value, interval, study.spec.objective)


def of_best(study: StudyRecord, rows: Sequence[Candidate]) -> list[tuple[Candidate, bool | str, int]]:
    """For each model with a complete trial: the weights that its best trial began with, and the size of its
    evaluation in pixels. Empty for a trainer of your own, which need not have such settings."""
    if study.spec.trainer != SHIPPED_TRAINER:
        return []
    base, found = study.spec.base(), []
    for row in rows:
        if row.best:
            config = configure(base, row.best.assigned)
            last = schedule.stages(config.train.progressive, config.train.epochs)[-1]
            found.append((row, config.model.pretrained, config.train.eval_size or last.size))
    return found


def uneven(rows: Sequence[Candidate]) -> tuple[float, float] | None:
    """The shortest and the longest epoch, in seconds, of the model whose epochs at one image size differ most; None if
    none is twice as long as another. Then other work slowed the machine, or some workers are slower."""
    alike: dict[tuple[str, int | None], list[float]] = {}
    for row in rows:
        for one in (metrics for trial in row.trials for metrics in trial.metrics):
            if one.seconds:
                alike.setdefault((row.name, one.image_size), []).append(one.seconds)
    low, high = max(
        ((min(own), max(own)) for own in alike.values()), key=lambda ends: ends[1] / ends[0], default=(1, 1)
    )
    return (low, high) if high > UNEVEN * low else None


def machines(rows: Sequence[Candidate]) -> set[tuple[str | None, str | None]]:
    """The hosts and devices that the best trials were trained on."""
    return {(one.host, one.device) for row in rows if row.best for one in row.best.attempts}
