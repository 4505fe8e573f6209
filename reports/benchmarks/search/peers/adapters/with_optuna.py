"""Optuna's own pruners: each value is reported, and a pruned trial is told as pruned."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from reports.benchmarks.search.peers.protocol import CONTINUE, STOP, Answer, Peer, Problem, Start


def tpe_hyperband(problem: Problem) -> Peer:
    return _Study(problem, optuna.samplers.TPESampler(seed=problem.seed), _hyperband(problem))


def tpe_halving(problem: Problem) -> Peer:
    return _Study(problem, optuna.samplers.TPESampler(seed=problem.seed), _halving())


def gp_halving(problem: Problem) -> Peer:
    return _Study(problem, optuna.samplers.GPSampler(seed=problem.seed), _halving())


def _hyperband(problem: Problem) -> optuna.pruners.BasePruner:
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=problem.epochs)


def _halving() -> optuna.pruners.BasePruner:
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=1)


def distributions(problem: Problem) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    return {
        one.name: IntDistribution(round(one.low), round(one.high), log=one.log)
        if one.integer
        else FloatDistribution(one.low, one.high, log=one.log)
        for one in problem.parameters
    }


class _Study:
    def __init__(
        self, problem: Problem, sampler: optuna.samplers.BaseSampler, pruner: optuna.pruners.BasePruner
    ) -> None:
        # Hyperband draws a trial's bracket from the study's name, which is random unless it is given.
        name = f"peer-{problem.seed}"
        self._study = optuna.create_study(study_name=name, direction="maximize", sampler=sampler, pruner=pruner)
        self._space = distributions(problem)
        self._epochs = problem.epochs
        self._trials: dict[int, optuna.Trial] = {}

    def ask(self, spent: float) -> Start:
        trial = self._study.ask(self._space)
        self._trials[trial.number] = trial
        return Start(trial.number, trial.params, self._epochs)

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        asked = self._trials[trial]
        asked.report(value, epoch)
        if epoch == self._epochs:
            self._study.tell(asked, value)
            return STOP
        if asked.should_prune():
            self._study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            return STOP
        return CONTINUE
