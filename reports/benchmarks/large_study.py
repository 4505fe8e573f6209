"""A recorded study of thousands of trials, invented: for tests of growth, and to measure what shows a study.

`python -m reports.benchmarks.large_study HOME [TRIALS]` writes the study `large` into the home folder HOME.

100 workers train at once. The real ASHA judges them, a share of the trials are controls, some fail, and some lose their
worker once. All numbers follow from a seed. The rows go into the ledger in bulk, past `hpo.ledger.writer`, which takes
milliseconds per record.
"""

from __future__ import annotations

import heapq
import json
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState

from hpo.home import Home
from hpo.ledger import attributes
from hpo.ledger.outcome import OPTUNA_STATE, Cause, Ending, Outcome, classify
from hpo.ledger.records import Attempt, EpochRecord, Origin, StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.distributions import distributions
from hpo.search.rungs import RungJudge
from hpo.spec.parameters import CategoricalParameter, Choice, FloatParameter
from hpo.spec.seeds import is_control
from hpo.spec.study import Spec
from trainers.api import EpochMetrics

BEGAN = 1_700_000_000.0
WORKERS_PER_NODE = 8
EPOCH_S, START_S = 20.0, 0.5
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
    return tuple(_Simulation(spec, workers, running).run())


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
    state = TrialState[OPTUNA_STATE[trial.outcome.ending]] if trial.outcome else TrialState.RUNNING
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
        yield models.TrialUserAttributeModel, {"trial_id": key, "key": name, "value_json": json.dumps(content)}
    finite = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
    for epoch in trial.epochs:
        row = {"step": epoch.metrics.epoch, "intermediate_value": epoch.value, "intermediate_value_type": finite}
        yield models.TrialIntermediateValueModel, {"trial_id": key} | row
    if state in (TrialState.COMPLETE, TrialState.PRUNED):
        row = {"objective": 0, "value": trial.value, "value_type": models.TrialValueModel.TrialValueType.FINITE}
        yield models.TrialValueModel, {"trial_id": key} | row


def _attributes(trial: TrialRecord) -> dict[str, Any]:
    """The attributes of one trial in the ledger."""
    content: dict[str, Any] = {attributes.START_KEY: attributes.start_to_json(trial)}
    rungs = {int(decision.rung): decision for decision in trial.rungs}
    for number, epoch in enumerate(trial.epochs, start=1):
        content[attributes.epoch_key(number)] = attributes.epoch_to_json(epoch, rungs.get(number))
    if trial.enqueued:
        content[attributes.ENQUEUED_KEY] = True
    if trial.outcome:
        content[attributes.OUTCOME_KEY] = attributes.outcome_to_json(trial.outcome, trial.finished)
    if trial.mlflow_run_id:
        content[attributes.RUN_KEY] = trial.mlflow_run_id
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


class _Simulation:
    """Workers that take the next trial as soon as they are free; one event per epoch, in the order of time."""

    def __init__(self, spec: Spec, workers: int, running: bool) -> None:
        self._spec = spec
        self._running = running
        self._judge = RungJudge(spec, ())
        self._trials: dict[int, TrialRecord] = {}
        self._events: list[tuple[float, int, int]] = []
        """(moment of a report, worker, trial)"""
        for worker in range(min(workers, spec.budget.trials)):
            self._begin(worker, BEGAN + 30.0 + 0.1 * worker)

    def run(self) -> Iterator[TrialRecord]:
        """The trials at the end, by number."""
        while self._events and not (self._running and len(self._trials) == self._spec.budget.trials):
            moment, worker, number = heapq.heappop(self._events)
            if self._report(number, moment):
                heapq.heappush(self._events, (moment + self._length(number), worker, number))
            elif len(self._trials) < self._spec.budget.trials:
                self._begin(worker, moment)
        return iter([self._trials[number] for number in sorted(self._trials)])

    def _begin(self, worker: int, moment: float) -> None:
        number, draw = len(self._trials), self._draw(len(self._trials))
        host = f"node-{worker // WORKERS_PER_NODE}"
        attempt = Attempt(moment, 0, host, "cuda", 1000 + worker, gpus=1.0)
        attempts: tuple[Attempt, ...] = (attempt,)
        if draw.random() < 0.01:  # its first worker died before a report
            attempts = (replace(attempt, lost="the node died", ended=moment + 5), replace(attempt, started=moment + 9))
        enqueued = number < len(self._spec.enqueue)
        self._trials[number] = TrialRecord(
            number,
            dict(self._spec.enqueue[number]) if enqueued else self._values(draw),
            seed=number,
            enqueued=enqueued,
            origin=Origin("baseline" if enqueued else "sampler"),
            control=enqueued or is_control(self._spec.seed, number, self._spec.asha.controls),
            attempts=attempts,
        )
        heapq.heappush(self._events, (attempts[-1].started + START_S + self._length(number), worker, number))

    def _report(self, number: int, moment: float) -> bool:
        """Take one report; returns whether the trial continues."""
        trial, draw = self._trials[number], self._draw(number + 1_000_003)
        if not trial.enqueued and not trial.epochs and draw.random() < 0.01:
            outcome = Outcome(Ending.FAILED, "Diverged: the training loss became nan in epoch 1", Cause.CONFIGURATION)
            self._trials[number] = replace(trial, outcome=outcome, finished=moment)
            return False
        metrics = self._metrics(trial)
        decision = self._judge.decide(trial, metrics)
        trial = replace(
            trial,
            epochs=(*trial.epochs, EpochRecord(metrics, moment)),
            rungs=(*trial.rungs, decision) if decision else trial.rungs,
        )
        horizon, stopped = self._spec.train.epochs, trial.pruned_at
        ended = stopped is not None or len(trial.epochs) == horizon
        if ended:
            outcome = classify(epochs=len(trial.epochs), horizon=horizon, value=trial.value, pruned_at=stopped)
            trial = replace(trial, outcome=outcome, finished=moment)
        self._trials[number] = trial
        return not ended

    def _metrics(self, trial: TrialRecord) -> EpochMetrics:
        """A learning curve that rises to an accuracy which the configuration decides."""
        epoch, draw = len(trial.epochs) + 1, self._draw(trial.number * 1000 + len(trial.epochs))
        lr = trial.values["train.lr"]
        assert isinstance(lr, float)
        top = 0.95 - 0.05 * abs(math.log10(lr) + 2.5) ** 1.5 + 0.004 * draw.gauss(0, 1)
        value = min(0.999, max(0.1, top * (1 - 0.6 * 0.75**epoch)))
        stage, length = (epoch - 1) // 5, self._length(trial.number)
        return EpochMetrics(
            epoch=epoch,
            val_accuracy=value,
            val_loss=2 - 2 * value,
            train_loss=2.2 - 2 * value,
            stage=stage,
            image_size=128 + 32 * stage,
            batch_size=512,
            learning_rate=lr,
            images_per_second=2250.0 + draw.random(),
            train_seconds=0.9 * length,
            eval_seconds=0.05 * length,
            seconds=0.97 * length,
            params=7_000_000 + 1000 * (trial.number % 997),
            macs=700_000_000,
            compute=epoch / 2,
        )

    def _length(self, number: int) -> float:
        return EPOCH_S * (0.8 + 0.4 * self._draw(number).random())

    def _values(self, draw: random.Random) -> dict[str, Choice]:
        return {name: _value(parameter, draw) for name, parameter in self._spec.space.items()}

    def _draw(self, key: int) -> random.Random:
        return random.Random(1_000_000_007 * self._spec.seed + key)


def _value(parameter: Any, draw: random.Random) -> Choice:
    if isinstance(parameter, CategoricalParameter):
        return draw.choice(parameter.choices)
    if isinstance(parameter, FloatParameter):
        low, high = (math.log(end) if parameter.log else end for end in (parameter.low, parameter.high))
        return math.exp(draw.uniform(low, high)) if parameter.log else draw.uniform(low, high)
    return draw.randint(parameter.low, parameter.high)


if __name__ == "__main__":
    folder, *count = sys.argv[1:]
    write(Home(Path(folder)), specification(int(count[0]) if count else 10_000))
