"""Landing: which unfinished trial a free worker should finish, rather than begin a new one.

A study delivers complete trials only. The rule compares what each choice adds to the best complete trial, per second of
a worker. It has one form for the whole study: a pruned trial that promises most is taken up at once, and near the end,
where a new trial has no time to finish, the best remainders that fit come first.

Simulated studies use it, and drivers do with `search.landing`, which is off: it delivers no more than `gp` without it
(reports/benchmarks/search/search.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from hpo.search.policies.acquisition import Prediction, log_expected_improvement
from hpo.search.policies.gp_regression import Posterior, fit
from hpo.search.policies.linear_algebra import one_thread
from hpo.search.unit_cube import Array, UnitCube

LEAST_COSTS, MOST_COSTS = 3, 64
"""Fewest trials from which costs are learned, and the number of the newest ones that are used."""


@dataclass(frozen=True)
class Choice:
    """What a free worker could do."""

    end: Prediction
    to_end: float
    """Seconds until the trial would be complete."""
    cost: float | None = None
    """Seconds that it is expected to take, if ASHA may stop it before; None: `to_end`."""

    def log_rate(self, best: float, left: float) -> float:
        """Logarithm of the expected improvement over `best` per second; minus infinity if it cannot be complete within
        `left` seconds."""
        if self.to_end > left:
            return -math.inf
        mean, deviation = np.array([self.end.mean]), np.array([self.end.deviation])
        gain = float(log_expected_improvement(mean, deviation, best)[0])
        return gain - math.log(max(self.to_end if self.cost is None else self.cost, 1e-9))


def incumbent(ends: Mapping[int, Prediction], landed: Collection[int]) -> float:
    """What another trial has to beat.

    Args:
        ends: of all trials, by number; at least one.
        landed: those that are complete, or run and will be in time. Without any, the worst trial is to be beaten,
            because any complete trial is better than none.
    """
    certain = [ends[number].mean for number in landed if number in ends]
    return max(certain) if certain else min(end.mean for end in ends.values())


def next_up(unfinished: Mapping[int, Choice], new: Choice | None, best: float, left: float) -> int | None:
    """The number of the unfinished trial that a free worker should take up; None if a new trial is worth more per
    second, or if no unfinished one can be complete in time.

    Args:
        unfinished: those that no worker trains, by number.
        new: the suggestion for a new trial; None if there is none.
        best: what they have to beat: see `incumbent`.
        left: seconds that each worker has left; infinite without a budget of time.
    """
    rates = {number: choice.log_rate(best, left) for number, choice in unfinished.items()}
    number = max(rates, key=lambda one: (rates[one], -one), default=None)
    if number is None or rates[number] == -math.inf:
        return None
    return number if new is None or rates[number] > new.log_rate(best, left) else None


class EpochSeconds:
    """Predicts the seconds of an epoch from a configuration: a Gaussian process over their logarithm."""

    def __init__(self, space: UnitCube, cube: Array, seconds: Array) -> None:
        """
        Args:
            cube: points of the unit cube, (n, parameters), the newest last; n is at least `LEAST_COSTS`.
            seconds: of an epoch of each, (n,), above 0.
        """
        self._space = space
        features, logs = space.features(cube[-MOST_COSTS:]), np.log(seconds[-MOST_COSTS:])
        self._mean, self._unit = float(logs.mean()), float(logs.std()) or 1.0
        scores = (logs - self._mean) / self._unit
        with one_thread():
            self._posterior = Posterior(fit(features, scores, space.owners()), features, scores)

    def predict(self, cube: Array) -> Array:
        """Median seconds of an epoch at points of the unit cube, (n,)."""
        with one_thread():
            mean = self._posterior.mean(self._space.features(cube))
        return np.asarray(np.exp(self._mean + self._unit * mean))
