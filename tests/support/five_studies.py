"""Five studies of every kind that the outputs must agree on, written by the real ledger, conductor and MLflow mirror.

Their trainings are recorded, not run: each trial has a list of accuracies, one per epoch. Nothing here needs Ray.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpo.clock import Clock
from hpo.driver.conductor import Conductor
from hpo.driver.confirm import specification
from hpo.driver.decisions.rounds import candidates, repeats
from hpo.home import Home, confirmation_of
from hpo.ledger.reader import load_study, read_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.spec.study import Budget, Spec
from hpo.tracking.mirror import Mirror
from trainers.api import EpochMetrics

IMAGES = {"num_classes": 10, "train_count": 4500, "validation_count": 500, "split_hash": "ab" * 32}
EPOCHS = 4
OUT_OF_MEMORY = "OutOfMemory: stage 0, 32 px, batch size 512: out of device memory"


@dataclass(frozen=True)
class Plan:
    """What happens in one study."""

    name: str
    curves: Sequence[Sequence[float]]
    """Validation accuracies by trial and epoch. An empty curve: the trial fails at once."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the specification."""
    info: Mapping[str, Any] = field(default_factory=dict)
    params: Sequence[int] = ()
    """Parameters of the network, by trial."""
    repeats: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """The confirmation: final accuracies over the new seeds, by trial."""


def to(*ends: float) -> list[list[float]]:
    """Curves that rise to these accuracies."""
    return [[round(end * share, 4) for share in (0.7, 0.8, 0.9, 1.0)] for end in ends]


FIVE = (
    Plan(
        "custom",
        to(0.8, 0.86, 0.84),
        {"trainer": "tests.synthetic:train", "description": "Curves without a network."},
    ),
    Plan(
        "confirmed",
        to(0.9, 0.92, 0.94),
        {"model": {"name": "resnet18"}, "asha": {"enabled": False}},
        {"data": IMAGES},
        # Trial 2 won the search by luck. Seeds far apart: the interval of trial 1 would pass 100 %.
        repeats={0: (0.90, 0.91, 0.905), 1: (0.90, 0.994, 0.947), 2: (0.89, 0.90, 0.895)},
    ),
    Plan(
        "controls",
        [*to(0.8), *([[0.5 - 0.01 * n, 0.6, 0.7, 0.7 + 0.01 * n] for n in range(9)])],
        {"model": {"name": "resnet18"}, "asha": {"reduction_factor": 2, "controls": 0.5}},
        {"data": IMAGES},
    ),
    Plan(
        "corner",
        [*to(0.9), [], *to(0.902), [], *to(0.88)],
        {"model": {"name": "resnet18"}, "asha": {"enabled": False}},
        {"data": IMAGES},
    ),
    Plan(
        "front",
        to(0.9, 0.95, 0.93),
        {"model": {"name": "resnet18"}, "objectives": ["val_accuracy", "params"], "asha": {"enabled": False}},
        {"data": IMAGES},
        params=(1_000, 9_000, 5_000),
    ),
)


def write_all(home: Home) -> dict[str, StudyRecord]:
    """Write the five studies into the ledger and MLflow of `home`; returns their records."""
    for plan in FIVE:
        _write(home, plan)
    return {plan.name: read_study(home, plan.name) for plan in FIVE}


def _clock() -> Clock:
    """A minute passes with each look, so that trainings which are only recorded take time."""
    return Clock(wall=time.time, monotonic=itertools.count(0.0, 60.0).__next__)


def _write(home: Home, plan: Plan) -> None:
    storage = open_storage(home.ledger_url)
    spec = Spec.model_validate(
        {
            "study": plan.name,
            "train": {"epochs": EPOCHS, "progressive": {"stages": 1}},
            "space": {"train.lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}},
            "enqueue": [{"train.lr": round(1e-3 * (number + 1), 4)} for number in range(len(plan.curves))],
            "budget": {"trials": len(plan.curves)},
            "stop_after_failures": 0,
            **plan.settings,
        }
    )
    info = {"identity": plan.name, "created": time.time(), "git_commit": "4f55f8b", "versions": {}, **plan.info}
    ledger = Ledger.create(storage, spec, info, clock=_clock())
    _train(ledger, lambda trial: plan.curves[trial.number], plan.params)
    if plan.repeats:
        _confirm(home, plan, info)
    for name in (plan.name, *([confirmation_of(plan.name)] if plan.repeats else [])):
        study = load_study(storage, name)
        mirror = Mirror(study, home)
        mirror.begin()
        for trial in study.trials:
            mirror.sync(trial)
        mirror.finish(study)


def _confirm(home: Home, plan: Plan, info: Mapping[str, Any]) -> None:
    storage = open_storage(home.ledger_url)
    study = load_study(storage, plan.name)
    seeds = min(map(len, plan.repeats.values()))
    ledger = Ledger.create(storage, specification(study), info, name=confirmation_of(plan.name), clock=_clock())
    ledger.plan(repeats(study, candidates(study, len(plan.repeats)), seeds))
    ledger.respecify(ledger.spec.model_copy(update={"budget": Budget(trials=len(ledger.trials))}))

    def curve(trial: TrialRecord) -> Sequence[float]:
        assert trial.repeat is not None
        return to(plan.repeats[trial.repeat.trial][trial.repeat.index])[0]

    _train(ledger, curve, plan.params)


def _train(ledger: Ledger, curve: Any, params: Sequence[int]) -> None:
    """Report the accuracies of each trial, one trial after another."""
    conductor = Conductor(ledger)
    while (assignment := conductor.next_trial()) is not None:
        number = assignment.number
        conductor.on_placed(number, "node-1", "cuda", 100)
        values = curve(ledger.trial(number))
        if not values:
            conductor.on_failure(number, OUT_OF_MEMORY)
        for epoch, value in enumerate(values, start=1):
            size = params[number] if params else None
            if not conductor.on_epoch(number, EpochMetrics(epoch=epoch, val_accuracy=value, params=size)):
                break
    conductor.close()
