"""The one place that says which columns the tables of trials and of epochs have.

`hpo trials`, the file `trials.csv` of a report and the data frames of the Python interface all have these.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.tables.table import Column, Kind, Table
from hpo.spec.parameters import Parameter
from hpo.text import first_line
from trainers.api import EpochMetrics

STUDY = Column("study", "text")
"""The first column of a table of several studies."""
BEFORE = (
    Column("trial", "int"),
    Column("state", "text"),
    Column("origin", "text"),
    Column("epochs", "int"),
    Column("stage", "int"),
    Column("value", "float"),
    Column("label", "text"),
)
"""The columns of a trial before its parameters: its number; its state (complete, pruned, failed, interrupted, running
or waiting); who chose the configuration; the epochs that it trained; the stage of progressive
learning that it reached, from 0; the value of the primary objective after the last epoch, by default the validation
accuracy, 0 to 1; what a person called the configuration."""
AFTER = (
    Column("seconds", "float"),
    Column("started", "time"),
    Column("ended", "time"),
    Column("attempts", "int"),
    Column("host", "text"),
    Column("reason", "text"),
    Column("mlflow_run_id", "text"),
)
"""The columns of a trial after its parameters: seconds that its worker spent on the recorded epochs; when the first
attempt began and when the trial ended for good; how often it began; the node of the last attempt; why it ended."""
METRICS = tuple(
    field.name for field in dataclasses.fields(EpochMetrics) if field.name not in ("epoch", "own", "checkpoint")
)
"""The metrics of an epoch, in the order of `EpochMetrics`, which says what each of them is."""


def trial_table(studies: Sequence[StudyRecord]) -> Table:
    """One row per trial. The parameters have columns with their dotted names, and no value where a trial has none.
    Settings outside the space that a person gave a trial follow them."""
    space: dict[str, Parameter] = {}
    for study in studies:
        space = {**study.spec.space, **space}
    outside = {name for study in studies for trial in study.trials for name in trial.settings}
    names = [*space, *sorted(outside.difference(space))]
    parameters = [Column(name, _kind(studies, name) if name in space else "choice") for name in names]
    first = [STUDY] if len(studies) > 1 else []
    rows = (
        (*([study.name] if first else []), *_trial(study, trial, names)) for study in studies for trial in study.trials
    )
    return Table((*first, *BEFORE, *parameters, *AFTER), tuple(rows))


def epoch_table(study: StudyRecord) -> Table:
    """One row per finished epoch of every trial: the trial's number, the epoch from 1, when it was recorded, the value
    of the primary objective, the metrics, and those of an own trainer by their names."""
    own = list(dict.fromkeys(name for trial in study.trials for one in trial.metrics for name in one.own or ()))
    hints = typing.get_type_hints(EpochMetrics)
    first = [Column("trial", "int"), Column("epoch", "int"), Column("time", "time"), Column("value", "float")]
    metrics = [Column(name, "int" if hints[name] == int | None else "float") for name in METRICS]
    return Table((*first, *metrics, *(Column(name, "float") for name in own)), tuple(_epochs(study, own)))


def _kind(studies: Sequence[StudyRecord], name: str) -> Kind:
    types = {study.spec.space[name].type for study in studies if name in study.spec.space}
    return "choice" if "categorical" in types else "float" if "float" in types else "int"


def _trial(study: StudyRecord, trial: TrialRecord, names: Sequence[str]) -> tuple[Any, ...]:
    last, begun = trial.last, trial.attempts
    return (
        trial.number,
        trial.status,
        redact(str(trial.origin)) if trial.origin else None,
        len(trial.epochs),
        last.stage if last else None,
        None if trial.value is None else study.spec.objective.score(trial.value),
        redact(trial.title) if trial.title else None,
        *(trial.assigned.get(name) for name in names),
        worker_seconds(trial),
        begun[0].started if begun else None,
        trial.finished,
        len(begun),
        begun[-1].host if begun else None,
        first_line(redact(trial.outcome.reason)) if trial.outcome else None,
        trial.mlflow_run_id,
    )


def worker_seconds(trial: TrialRecord) -> float | None:
    """Seconds that its worker spent on the recorded epochs; None where the trainer reports none."""
    return trial.seconds if any(one.seconds is not None for one in trial.metrics) else None


def _epochs(study: StudyRecord, own: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    score, metrics = study.spec.objective.score, attrgetter(*METRICS)
    for trial in study.trials:
        for epoch in trial.epochs:
            others = epoch.metrics.own or {}
            yield (
                trial.number,
                epoch.metrics.epoch,
                epoch.recorded,
                score(epoch.value),
                *metrics(epoch.metrics),
                *(others.get(name) for name in own),
            )
