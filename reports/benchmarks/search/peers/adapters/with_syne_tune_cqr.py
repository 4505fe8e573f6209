"""Syne Tune's conformal quantile regression with ASHA, from a release later than that of `with_syne_tune`.

The package of that one lacks the module it needs.
"""

from __future__ import annotations

import logging
from datetime import datetime

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.baselines import ASHACQR
from syne_tune.optimizer.scheduler import SchedulerDecision

from reports.benchmarks.search.peers.adapters.syne_tune_space import space
from reports.benchmarks.search.peers.protocol import CONTINUE, STOP, Answer, Peer, Problem, Start

METRIC, EPOCH = "accuracy", "epoch"


def cqr(problem: Problem) -> Peer:
    return _Cqr(problem)


class _Cqr:
    def __init__(self, problem: Problem) -> None:
        logging.disable(logging.WARNING)
        np.random.seed(problem.seed)  # the draw of a bracket and the trees have no seed of their own
        self._epochs = problem.epochs
        self._scheduler = ASHACQR(
            space(problem), METRIC, EPOCH, max_t=problem.epochs, do_minimize=False, random_seed=problem.seed
        )
        self._trials: list[Trial] = []

    def ask(self, spent: float) -> Start:
        suggestion = self._scheduler.suggest()
        trial = Trial(len(self._trials), suggestion.config, datetime.now())  # noqa: TID251 - a stamp that nothing reads
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        params = {name: value.item() if hasattr(value, "item") else value for name, value in trial.config.items()}
        return Start(trial.trial_id, params, self._epochs)

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        told = self._trials[trial]
        if self._scheduler.on_trial_result(told, {METRIC: value, EPOCH: epoch}) == SchedulerDecision.CONTINUE:
            return CONTINUE
        self._scheduler.on_trial_remove(told)
        return STOP
