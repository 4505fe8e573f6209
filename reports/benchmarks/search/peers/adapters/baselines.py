"""The two baselines of Egele et al., "Is One Epoch All You Need For Multi-Fidelity Hyperparameter Optimization?"
(arXiv 2307.15422), with random configurations."""

from __future__ import annotations

import optuna

from hpo.search.samplers import make_sampler
from reports.benchmarks.search.peers.adapters.with_optuna import distributions
from reports.benchmarks.search.peers.protocol import CONTINUE, PAUSE, STOP, Answer, Peer, Problem, Start

FIRST_PART = 0.5
"""Share of the budget in which new configurations train for one epoch. The rest is for the best of them."""


def one_epoch(problem: Problem) -> Peer:
    """One epoch for all, then the best ones to the end, as many as the rest of the budget has room for."""
    return _OneEpoch(problem)


def to_the_end(problem: Problem) -> Peer:
    """No pruning."""
    return _ToTheEnd(problem)


class _Draws:
    """Configurations of the random sampler of this project, by trial."""

    def __init__(self, problem: Problem) -> None:
        space = distributions(problem)
        sampler = make_sampler("random", seed=problem.seed, horizon=problem.epochs, distributions=space)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._space = space

    def next(self) -> tuple[int, dict[str, float]]:
        trial = self._study.ask(self._space)
        return trial.number, trial.params


class _ToTheEnd:
    def __init__(self, problem: Problem) -> None:
        self._draws, self._epochs = _Draws(problem), problem.epochs

    def ask(self, spent: float) -> Start:
        return Start(*self._draws.next(), self._epochs)

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        return STOP if epoch == self._epochs else CONTINUE


class _OneEpoch:
    def __init__(self, problem: Problem) -> None:
        self._draws, self._epochs = _Draws(problem), problem.epochs
        self._params: dict[int, dict[str, float]] = {}
        self._first: dict[int, float] = {}
        """Values of paused trials at epoch 1."""

    def ask(self, spent: float) -> Start:
        if spent >= FIRST_PART and self._first:
            best = max(self._first, key=lambda trial: (self._first[trial], -trial))
            del self._first[best]
            return Start(best, self._params[best], self._epochs)
        trial, self._params[trial] = self._draws.next()
        return Start(trial, self._params[trial], 1)

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        if epoch == self._epochs:
            return STOP
        if epoch > 1:
            return CONTINUE
        self._first[trial] = value
        return PAUSE
