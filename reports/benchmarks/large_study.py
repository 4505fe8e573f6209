"""A recorded study of thousands of trials, invented: for tests of growth, and to measure what shows a study.

`python -m reports.benchmarks.large_study HOME [TRIALS]` writes the study `large` into the home folder HOME.

`reports.benchmarks.invented_trials` invents its trials. The rows go into the ledger in bulk, past `hpo.ledger.writer`,
which takes milliseconds per record.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState

from hpo.home import Home
from hpo.ledger import attributes
from hpo.ledger.outcome import optuna_state
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.tables import names
from hpo.ledger.writer import Ledger
from hpo.search.distributions import distributions
from hpo.spec.study import Spec
from reports.benchmarks.invented_trials import BEGAN, Simulation

IMAGES = {"num_classes": 10, "train_count": 45_000, "validation_count": 5_000, "split_hash": "ab" * 32}
SETTINGS: dict[str, Any] = {
    "study": "large",
    "train": {"epochs": 20, "progressive": {"stages": 4}},
    "space": {
        "train.lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "train.weight_decay": {"type": "float", "low": 1e-6, "high": 1e-1, "log": True},
        "train.label_smoothing": {"type": "float", "low": 0.0, "high": 0.3},
        "train.progressive.dropout.end": {"type": "float", "low": 0.1, "high": 0.5},
        "train.progressive.randaugment.end": {"type": "float", "low": 0, "high": 20},
        "train.progressive.mixup.end": {"type": "float", "low": 0.0, "high": 0.5},
        "train.optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
        "train.warmup_epochs": {"type": "int", "low": 0, "high": 5},
    },
    "asha": {"reduction_factor": 3, "controls": 0.02, "resource": "epochs"},
    "resources": {"device": "cuda", "gpus": 1},
    "storage": {"keep": "unfinished"},
}


def specification(trials: int, **settings: Any) -> Spec:
    """The study's specification; `settings` replace parts of it."""
    baseline = {
        "train.lr": 1e-3,
        "train.weight_decay": 1e-4,
        "train.label_smoothing": 0.1,
        "train.progressive.dropout.end": 0.3,
        "train.progressive.randaugment.end": 15.0,
        "train.progressive.mixup.end": 0.0,
        "train.optimizer": "adamw",
        "train.warmup_epochs": 1,
    }
    return Spec.model_validate({**SETTINGS, "enqueue": [baseline], "budget": {"trials": trials}, **settings})


def records(spec: Spec, *, workers: int = 100, running: bool = False) -> tuple[TrialRecord, ...]:
    """The trials of the study, `budget.trials` of them.

    Args:
        running: stop when the last trial has begun, so that the others of that moment are running, too.
    """
    return tuple(Simulation(spec, workers, running).run())


def study(spec: Spec, *, workers: int = 100, running: bool = False) -> StudyRecord:
    """The record of the study, as `hpo.ledger.reader` would read it."""
    trials = records(spec, workers=workers, running=running)
    return StudyRecord(spec.study, spec, _info(), trials, ((BEGAN, _newest(trials)),), driver=_driver(running))


def write(home: Home, spec: Spec, *, workers: int = 100, running: bool = False) -> StudyRecord:
    """Write the study into the ledger of `home`; returns its record."""
    home.path.mkdir(parents=True, exist_ok=True)
    invented = study(spec, workers=workers, running=running)
    storage = open_storage(home.ledger_url)
    ledger = Ledger.create(storage, spec.model_copy(update={"enqueue": ()}), _info())
    ledger.respecify(spec)  # its baseline is among the trials below
    if not running:
        ledger.close()
    insert(storage, spec, invented.trials)
    return invented


def insert(storage: RDBStorage, spec: Spec, trials: Sequence[TrialRecord]) -> None:
    """Add trials to a study that has none, in one transaction."""
    study_id = storage.get_study_id_from_name(spec.study)
    rows: dict[Any, list[dict[str, Any]]] = {}
    with storage.engine.begin() as connection:
        first = connection.execute(sqlalchemy.select(sqlalchemy.func.max(models.TrialModel.trial_id))).scalar() or 0
        for trial in trials:
            for model, row in _rows(trial, spec, study_id, first + 1 + trial.number):
                rows.setdefault(model, []).append(row)
        for model, found in rows.items():
            connection.execute(sqlalchemy.insert(model), found)


def _rows(trial: TrialRecord, spec: Spec, study_id: int, key: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The rows of one trial, each with its table."""
    state = (
        TrialState[optuna_state(trial.outcome.ending, judged=bool(trial.rungs))]
        if trial.outcome
        else TrialState.RUNNING
    )
    yield (
        models.TrialModel,
        {
            "trial_id": key,
            "number": trial.number,
            "study_id": study_id,
            "state": state,
            "_datetime_start_utc": _moment(trial.attempts[0].started),
            "_datetime_complete_utc": _moment(trial.finished),
        },
    )
    for name, distribution in _distributions(spec).items():
        if name in trial.values:
            value = distribution[0].to_internal_repr(trial.values[name])
            row = {"trial_id": key, "param_name": name, "param_value": value, "distribution_json": distribution[1]}
            yield models.TrialParamModel, row
    for name, content in _attributes(trial).items():
        model = models.TrialSystemAttributeModel if names.hidden(name) else models.TrialUserAttributeModel
        yield model, {"trial_id": key, "key": name, "value_json": json.dumps(content)}
    finite = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
    for epoch in trial.epochs:
        row = {"step": epoch.metrics.epoch, "intermediate_value": epoch.value, "intermediate_value_type": finite}
        yield models.TrialIntermediateValueModel, {"trial_id": key} | row
    if state in (TrialState.COMPLETE, TrialState.PRUNED):
        row = {"objective": 0, "value": trial.value, "value_type": models.TrialValueModel.TrialValueType.FINITE}
        yield models.TrialValueModel, {"trial_id": key} | row


def _attributes(trial: TrialRecord) -> dict[str, Any]:
    """The attributes of one trial in the ledger."""
    content: dict[str, Any] = {names.START_KEY: attributes.start_to_json(trial)}
    rungs = {int(decision.rung): decision for decision in trial.rungs}
    for number, epoch in enumerate(trial.epochs, start=1):
        content[attributes.epoch_key(number)] = attributes.epoch_to_json(epoch, rungs.get(number))
    if trial.enqueued:
        content[names.ENQUEUED_KEY] = True
    if trial.outcome:
        content[names.OUTCOME_KEY] = attributes.outcome_to_json(trial.outcome, trial.finished)
    if trial.mlflow_run_id:
        content[names.RUN_KEY] = trial.mlflow_run_id
    return content


_KNOWN: dict[str, dict[str, tuple[Any, str]]] = {}


def _distributions(spec: Spec) -> Mapping[str, tuple[Any, str]]:
    """Optuna's distribution of each parameter, and its JSON; made once, since it is the same in every row."""
    from optuna.distributions import distribution_to_json

    key = repr(spec.space)
    if key not in _KNOWN:
        made = distributions(spec.space)
        _KNOWN[key] = {name: (distribution, distribution_to_json(distribution)) for name, distribution in made.items()}
    return _KNOWN[key]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)


def _info() -> dict[str, Any]:
    return {"identity": "large", "created": BEGAN, "host": "node-0", "versions": {}, "data": IMAGES}


def _newest(trials: Sequence[TrialRecord]) -> float:
    return max((trial.finished or trial.attempts[-1].started for trial in trials), default=BEGAN)


def _driver(running: bool) -> Any:
    return "open" if running else "none"


if __name__ == "__main__":
    folder, *count = sys.argv[1:]
    write(Home(Path(folder)), specification(int(count[0]) if count else 10_000))
