"""A search in virtual time: four workers or more, learning curves instead of trainings, and the real search objects."""

from __future__ import annotations

import dataclasses
import heapq
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import optuna
from numpy.typing import NDArray

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, TrialRecord
from hpo.search.ahead import Ahead
from hpo.search.asha import AshaPruner, rung_levels
from hpo.search.policies.seeded import SeededSampler
from reports.benchmarks.search.lcbench import EPOCHS, Curve, Task
from trainers.api import EpochMetrics

WORKERS = 4
FULL_TRAININGS = 16
"""Budget, in median full trainings."""
GRACE, REDUCTION = 1, 4

Array = NDArray[np.float64]


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

    def spend(self, trial: int, seconds: float) -> None:
        """The next report of a trial has taken so long."""
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


@dataclass(frozen=True)
class Incumbents:
    """The best configurations of a run, one after the other."""

    times: Array
    """Times at which the incumbent changed, as shares of the budget."""
    regrets: Array
    """Normalised regret from each of these times."""

    def regret_at(self, share: float) -> float:
        """Return the regret of the incumbent at a share of the budget; 1.0 before there is an incumbent."""
        index = int(np.searchsorted(self.times, share, side="right")) - 1
        return float(self.regrets[index]) if index >= 0 else 1.0


@dataclass(frozen=True)
class Run:
    """One simulated study. The score of a configuration is its value after the last epoch."""

    known: Incumbents
    """Those with the best value so far at any epoch: what the search knows."""
    delivered: Incumbents
    """The best complete trials so far: what a user gets."""
    trials: int
    suggestion_seconds: Array
    """Processor time of each suggestion, seconds. Other load on the machine does not change it."""

    def regret_at(self, share: float) -> float:
        """Return the known regret at a share of the budget."""
        return self.known.regret_at(share)


class _Best:
    """The best value so far, and when it changed."""

    def __init__(self) -> None:
        self._value = -np.inf
        self._changes: list[tuple[float, float]] = []

    def see(self, value: float, share: float, regret: float) -> None:
        """A value at a share of the budget, and the regret of the configuration that has it."""
        if value > self._value:
            self._value = value
            self._changes.append((share, regret))

    def incumbents(self) -> Incumbents:
        times, regrets = np.array(self._changes).reshape(-1, 2).T
        return Incumbents(times, regrets)


def simulate(task: Task, search: Search, full_trainings: float = FULL_TRAININGS, workers: int = WORKERS) -> Run:
    """Run a study until the budget is spent. What is running then is lost."""
    budget = full_trainings * task.full_training / workers
    known, delivered, waits = _Best(), _Best(), []
    curves: list[Curve] = []
    trained: list[int] = []
    queue: list[tuple[float, int]] = []

    def start(now: float) -> None:
        before = time.process_time()
        trial = search.take_up(budget - now) if isinstance(search, Lands) else None
        if trial is None:
            trial = len(curves)
            params = search.suggest(trial)
            waits.append(time.process_time() - before)
            curves.append(task.curve(params))
            trained.append(0)
        train(now, trial)

    def train(now: float, trial: int) -> None:
        seconds = curves[trial].epoch_seconds(trained[trial] + 1)
        heapq.heappush(queue, (now + seconds, trial))

    for _ in range(workers):
        start(0.0)
    while queue and queue[0][0] <= budget:
        now, trial = heapq.heappop(queue)
        trained[trial] = epoch = trained[trial] + 1
        curve = curves[trial]
        value = float(curve.accuracy[epoch - 1])
        regret = task.regret(float(curve.accuracy[-1]))
        known.see(value, now / budget, regret)
        if epoch == EPOCHS:
            delivered.see(value, now / budget, regret)
        if isinstance(search, Lands):
            search.spend(trial, curve.epoch_seconds(epoch))
        if search.report(trial, epoch, value):
            train(now, trial)
        else:
            start(now)
    return Run(known.incumbents(), delivered.incumbents(), len(curves), np.array(waits))
