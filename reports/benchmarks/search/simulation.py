"""The search objects of this project, and Ray's with Optuna, in a study in virtual time (`virtual_time`)."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import optuna

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, TrialRecord
from hpo.search.ahead import Ahead
from hpo.search.asha import AshaPruner, rung_levels
from hpo.search.policies.seeded import SeededSampler
from reports.benchmarks.search.lcbench import EPOCHS, Task
from reports.benchmarks.search.peers.protocol import CONTINUE, PAUSE, STOP, Answer, Start
from reports.benchmarks.search.virtual_time import FULL_TRAININGS, WORKERS, Run, drive
from trainers.api import EpochMetrics

GRACE, REDUCTION = 1, 4


class Search(Protocol):
    """The searcher and the scheduler of a simulated study."""

    def suggest(self, trial: int) -> Mapping[str, Any]:
        """Return the parameters of a new trial."""
        ...

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """Record a value; return whether the trial continues."""
        ...


@runtime_checkable
class Lands(Protocol):
    """A search that may finish a stopped trial in place of a new one (`reports.benchmarks.search.landing`)."""

    def take_up(self, left: float) -> int | None:
        """Return a stopped trial that a free worker continues where it stopped; None: it begins a new one.

        Args:
            left: seconds until the budget is spent.
        """
        ...

    def spend(self, trial: int, seconds: float, left: float) -> None:
        """The next report of a trial has taken so long, and the budget is spent in `left` seconds."""
        ...


class OwnSearch:
    """A sampler of this project on an in-memory study, with its ASHA. Outcomes are recorded as in a real study."""

    def __init__(
        self, sampler: optuna.samplers.BaseSampler, space: Mapping[str, optuna.distributions.BaseDistribution]
    ) -> None:
        self._space = dict(space)
        self.study = optuna.create_study(direction="maximize", sampler=sampler, pruner=optuna.pruners.NopPruner())
        self._asha = AshaPruner(rung_levels(GRACE, REDUCTION, EPOCHS), REDUCTION)
        self._trials: dict[int, optuna.Trial] = {}

    def suggest(self, trial: int) -> Mapping[str, Any]:
        asked = self._trials[trial] = self.study.ask(self._space)
        return asked.params

    def report(self, trial: int, epoch: int, value: float) -> bool:
        self._trials[trial].report(value, epoch)
        decision = self._asha.decide(trial, epoch, value)
        if epoch == EPOCHS:
            self.study.tell(self._trials[trial], value)
            return False
        if decision is not None and not decision.keep:
            self.study.tell(self._trials[trial], state=optuna.trial.TrialState.PRUNED)
            return False
        return True


class AheadSearch:
    """The same with suggestions made ahead (`hpo.search.ahead`), from records as the ledger keeps them.

    All trials end at one recorded time, because suggestions are made ahead only where trials end fast.
    """

    def __init__(self, sampler: SeededSampler) -> None:
        self._ahead = Ahead(sampler, limit=sys.maxsize)
        self._asha = AshaPruner(rung_levels(GRACE, REDUCTION, EPOCHS), REDUCTION)
        self._trials: dict[int, TrialRecord] = {}

    def suggest(self, trial: int) -> Mapping[str, Any]:
        values = self._ahead.take(trial).values
        self._keep(TrialRecord(trial, values, attempts=(Attempt(0.0),)))
        return values

    def report(self, trial: int, epoch: int, value: float) -> bool:
        record = self._trials[trial]
        decision = self._asha.decide(trial, epoch, value)
        epochs = (*record.epochs, EpochRecord(EpochMetrics(epoch=epoch, val_accuracy=value), 0.0))
        self._keep(dataclasses.replace(record, epochs=epochs))
        ending = Ending.COMPLETE if epoch == EPOCHS else Ending.PRUNED
        if epoch < EPOCHS and (decision is None or decision.keep):
            return True
        self._keep(dataclasses.replace(self._trials[trial], outcome=Outcome(ending, ""), finished=0.0))
        return False

    def close(self) -> None:
        """End the thread."""
        self._ahead.close()

    def _keep(self, record: TrialRecord) -> None:
        self._trials[record.number] = record
        self._ahead.notice(record)


class StockSearch:
    """Ray's OptunaSearch and ASHAScheduler, as installed, called in the same order as by Ray's controller."""

    def __init__(self, seed: int, space: Mapping[str, optuna.distributions.BaseDistribution]) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        self._search = OptunaSearch(dict(space), metric="accuracy", mode="max", seed=seed)
        # Any, because Ray's signatures need its own Trial, of which only the id is read.
        self._scheduler: Any = ASHAScheduler(
            metric="accuracy", mode="max", max_t=EPOCHS, grace_period=GRACE, reduction_factor=REDUCTION
        )
        self._handles: dict[int, _Handle] = {}

    def suggest(self, trial: int) -> Mapping[str, Any]:
        handle = self._handles[trial] = _Handle(str(trial))
        suggestion = self._search.suggest(handle.trial_id)
        assert isinstance(suggestion, dict)
        self._scheduler.on_trial_add(None, handle)
        return suggestion

    def report(self, trial: int, epoch: int, value: float) -> bool:
        handle = self._handles[trial]
        result = {"training_iteration": epoch, "accuracy": value}
        if self._scheduler.on_trial_result(None, handle, result) == "STOP":
            self._search.on_trial_complete(handle.trial_id, result)
            return False
        self._search.on_trial_result(handle.trial_id, result)
        return True


@dataclass(frozen=True)
class _Handle:
    """The part of Ray's Trial that its ASHA reads."""

    trial_id: str


class Stopping:
    """A search of this file as a peer: its trials train to their end, or are stopped, for good unless it lands.

    Args:
        budget: seconds of the study on the clock, which a search that lands asks for.
    """

    def __init__(self, search: Search, budget: float = float("nan")) -> None:
        self._search, self._budget = search, budget
        self._params: list[Mapping[str, Any]] = []

    def ask(self, spent: float) -> Start:
        trial = self._search.take_up(self._budget * (1 - spent)) if isinstance(self._search, Lands) else None
        if trial is None:
            trial = len(self._params)
            self._params.append(self._search.suggest(trial))
        return Start(trial, self._params[trial], EPOCHS)

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        if self._search.report(trial, epoch, value):
            return CONTINUE
        return PAUSE if isinstance(self._search, Lands) and epoch < EPOCHS else STOP


def simulate(task: Task, search: Search, full_trainings: float = FULL_TRAININGS, workers: int = WORKERS) -> Run:
    """Run a study until the budget is spent. What is running then is lost."""
    peer = Stopping(search, full_trainings * task.full_training / workers)
    return drive(task, peer, full_trainings, workers, spend=search.spend if isinstance(search, Lands) else None)
