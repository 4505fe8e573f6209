"""A search that chooses among the rows of a table, in virtual time.

The searcher, ASHA and the controls are the study's own. What differs: no configuration exists but the rows, and each
can be tried once. The clock is compute: images x px^2 per worker.
"""

from __future__ import annotations

import dataclasses
import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, TrialRecord
from hpo.search.policies.history import History
from hpo.search.policies.seeded import SeededSampler
from hpo.search.rungs import RungJudge
from hpo.search.samplers import study_sampler, study_space
from hpo.search.unit_cube import Array, UnitCube
from hpo.spec.seeds import is_control
from hpo.spec.study import Spec
from reports.benchmarks.mission.table import Row
from reports.benchmarks.search.virtual_time import Best, Run
from trainers.api import EpochMetrics

WORKERS = 2
FULL_TRAININGS = 8
"""Budget, in mean full trainings of the pool."""


class FreeRows(UnitCube):
    """The space of a study in which no points exist but those of rows that nobody has taken."""

    def __init__(self, spec: Spec, rows: Sequence[Row]) -> None:
        whole = study_space(spec)
        super().__init__(whole.distributions, whole.active)
        self._points = self.encode([row.values for row in rows])
        self._places = self.features(self._points)
        self.free = np.arange(len(rows))

    def settle(self, cube: Array) -> Array:
        """The nearest free row of each point."""
        return self._points[self._nearest(super().settle(cube))]

    def take(self, point: Array) -> int:
        """The free row nearest to a point of the space, (parameters,). It is free no more."""
        index = int(self._nearest(point[None])[0])
        self.free = self.free[self.free != index]
        return index

    def _nearest(self, points: Array) -> NDArray[np.intp]:
        return np.asarray(self.free[cdist(self.features(points), self._places[self.free]).argmin(axis=1)])


class PoolSearch:
    """A policy with the study's ASHA, on records as the ledger keeps them."""

    def __init__(self, spec: Spec, rows: Sequence[Row], *, restricted: bool = True) -> None:
        """
        Args:
            restricted: the policy knows the rows: it compares free rows only. False: it suggests any point.
        """
        self._spec, self._rows = spec, rows
        self.space = FreeRows(spec, rows)
        sampler = study_sampler(spec)
        assert isinstance(sampler, SeededSampler)
        self._sampler = sampler
        self._history = History(self.space if restricted else study_space(spec), horizon=spec.train.epochs)
        self._judge = RungJudge(spec, ())
        self._records: dict[int, TrialRecord] = {}

    def suggest(self, trial: int) -> Row:
        """Choose the row of a new trial."""
        row = self._rows[self.space.take(self._point(trial))]
        control = is_control(self._spec.seed, trial, self._spec.asha.controls)
        self._keep(TrialRecord(trial, row.values, control=control, attempts=(Attempt(0.0),)))
        return row

    def report(self, trial: int, row: Row, epoch: int) -> bool:
        """Record an epoch of a row; return whether the trial continues."""
        compute = float(row.compute[epoch - 1]) / row.unit(self._spec)
        metrics = EpochMetrics(epoch=epoch, val_accuracy=row.val_accuracy[epoch - 1], compute=compute)
        record = self._records[trial]
        decision = self._judge.decide(record, metrics)
        record = dataclasses.replace(
            record,
            epochs=(*record.epochs, EpochRecord(metrics, 0.0)),
            rungs=record.rungs if decision is None else (*record.rungs, decision),
        )
        ending = None
        if epoch == self._spec.train.epochs:
            ending = Ending.COMPLETE
        elif decision is not None and not decision.keep and not record.control:
            ending = Ending.PRUNED
        if ending:
            record = dataclasses.replace(record, outcome=Outcome(ending, ""), finished=0.0)
        self._keep(record)
        return ending is None

    def _point(self, trial: int) -> Array:
        if self._spec.search.policy == "random":  # any free row, each with the same chance
            index = np.random.default_rng((self._spec.seed, trial)).choice(self.space.free)
            return np.asarray(self.space.encode([self._rows[index].values])[0])
        return np.asarray(self.space.encode([self._sampler.suggest(self._history, trial).values])[0])

    def _keep(self, record: TrialRecord) -> None:
        self._records[record.number] = record
        self._history.take_in([self._sampler.seen(record)])


@dataclass(frozen=True)
class Scale:
    """What regrets and budgets of a pool are measured by."""

    best: float
    median: float
    full_training: float
    """Mean compute of a full training."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Scale:
        ends = np.array([row.val_accuracy[-1] for row in rows])
        return cls(float(ends.max()), float(np.median(ends)), float(np.mean([row.compute[-1] for row in rows])))

    def regret(self, row: Row) -> float:
        """(best - accuracy) / (best - median): 0 for the best row of the pool, 1 for a median one."""
        return (self.best - row.val_accuracy[-1]) / (self.best - self.median)


def simulate(
    rows: Sequence[Row],
    search: PoolSearch,
    full_trainings: float = FULL_TRAININGS,
    workers: int = WORKERS,
) -> Run:
    """Run a study until the budget is spent or no row is left. What is running then is lost."""
    scale = Scale.of(rows)
    budget = full_trainings * scale.full_training / workers
    known, delivered = Best(), Best()
    waits: list[float] = []
    queue: list[tuple[float, int, int]] = []
    trained: list[Row] = []

    def start(now: float) -> None:
        if not len(search.space.free):
            return
        before = time.process_time()
        trained.append(search.suggest(len(trained)))
        waits.append(time.process_time() - before)
        heapq.heappush(queue, (now + trained[-1].compute[0], len(trained) - 1, 1))

    for _ in range(workers):
        start(0.0)
    while queue and queue[0][0] <= budget * (1 + 1e-9):
        now, trial, epoch = heapq.heappop(queue)
        row = trained[trial]
        known.see(row.val_accuracy[epoch - 1], now / budget, scale.regret(row))
        if epoch == len(row.val_accuracy):
            delivered.see(row.val_accuracy[-1], now / budget, scale.regret(row))
        if search.report(trial, row, epoch):
            heapq.heappush(queue, (now + row.compute[epoch] - row.compute[epoch - 1], trial, epoch + 1))
        else:
            start(now)
    return Run(known.incumbents(), delivered.incumbents(), len(trained), np.array(waits))


def varied(spec: Spec, seed: int, changes: dict[str, Any]) -> Spec:
    """The study with another seed and other sections, e.g. `{"asha": {"reduction_factor": 2}}`."""
    sections = {name: getattr(spec, name).model_copy(update=update) for name, update in changes.items()}
    return spec.model_copy(update={"seed": seed, **sections})
