"""Syne Tune's asynchronous multi-fidelity schedulers, called in the same order as by its Tuner."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.baselines import BOHB, MOBSTER
from syne_tune.optimizer.scheduler import SchedulerDecision

from reports.benchmarks.search.peers.adapters.syne_tune_space import space
from reports.benchmarks.search.peers.protocol import CONTINUE, PAUSE, STOP, Answer, Peer, Problem, Start

METRIC, EPOCH = "accuracy", "epoch"


def bohb(problem: Problem) -> Peer:
    return _Scheduler(BOHB, problem)


def mobster(problem: Problem) -> Peer:
    return _Scheduler(MOBSTER, problem, search_options={"debug_log": False})


class _Scheduler:
    def __init__(self, scheduler: Any, problem: Problem, **options: Any) -> None:
        logging.disable(logging.WARNING)  # a line for every decision
        self._epochs = problem.epochs
        self._scheduler = scheduler(
            space(problem),
            METRIC,
            resource_attr=EPOCH,
            mode="max",
            max_t=problem.epochs,
            random_seed=problem.seed,
            **options,
        )
        self._trials: list[Trial] = []

    def ask(self, spent: float) -> Start:
        number = len(self._trials)
        suggestion = self._scheduler.suggest(trial_id=number)
        if suggestion.spawn_new_trial_id:
            trial = Trial(number, suggestion.config, datetime.now())  # noqa: TID251 - a stamp that nothing reads
            self._trials.append(trial)
            self._scheduler.on_trial_add(trial=trial)
        else:
            trial = self._trials[suggestion.checkpoint_trial_id]
        params = {name: value.item() if hasattr(value, "item") else value for name, value in trial.config.items()}
        return Start(trial.trial_id, params, self._epochs)

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        told, result = self._trials[trial], {METRIC: value, EPOCH: epoch}
        decision = self._scheduler.on_trial_result(trial=told, result=result)
        if decision != SchedulerDecision.CONTINUE:
            self._scheduler.on_trial_remove(trial=told)
            return STOP if decision == SchedulerDecision.STOP else PAUSE
        if epoch < self._epochs:
            return CONTINUE
        self._scheduler.on_trial_complete(told, result)
        return STOP
