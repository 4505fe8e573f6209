"""Trials of a large study, invented: many workers train at once, without training.

The real ASHA judges the trials, a share of them are controls, some fail, and some lose their worker once. All numbers
follow from the seed of the study.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hpo.ledger.outcome import Cause, Ending, Outcome, classify
from hpo.ledger.records import Attempt, EpochRecord, Origin, TrialRecord
from hpo.search.rungs import RungJudge
from hpo.spec.parameters import CategoricalParameter, Choice, FloatParameter
from hpo.spec.seeds import is_control
from hpo.spec.study import Spec
from trainers.api import EpochMetrics

BEGAN = 1_700_000_000.0
"""When the study began, in seconds since the epoch."""
WORKERS_PER_NODE = 8
EPOCH_S, START_S = 20.0, 0.5


class Simulation:
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
