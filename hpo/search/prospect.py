"""How much a study may still gain, from a Gaussian process over its complete trials, whatever policy suggested them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hpo.ledger.records import TrialRecord
from hpo.search.policies.acquisition import LEADERS, log_expected_improvement, maximise
from hpo.search.policies.gp_regression import Posterior, fit
from hpo.search.policies.linear_algebra import one_thread
from hpo.search.unit_cube import Array, UnitCube
from hpo.spec.study import LEAST_COMPLETE

MOST_TRIALS = 100
"""Only so many of the best complete trials count, which bounds the time."""
RISK = 0.1
"""Chance that the bound of Makarova et al. does not hold."""
TIGHTER = 5
"""They divide the square of its width by this in their experiments, and so does Optuna."""


class Prospect(NamedTuple):
    """What another trial may bring, in the unit of the objective, 0 or more."""

    possible: float
    """An upper bound, with high probability, on how much better than the best trial any configuration is."""
    expected: float
    """The expected improvement of the most promising configuration over the best trial, trained to its end."""


def prospect(space: UnitCube, seed: int, complete: Sequence[TrialRecord]) -> Prospect | None:
    """The prospect of a study after these complete trials; None for fewer than `LEAST_COMPLETE`, or for a space without
    parameters. Trials with settings outside the space do not count: the model knows nothing of those.

    The bound is the greatest upper confidence bound of all configurations minus the greatest lower one of the trials:
    Makarova et al., "Automatic termination for hyperparameter optimization" (AutoML 2022), equation 4.

    Args:
        seed: of the random points at which the model is asked.
        complete: in any order; larger values are better.
    """
    complete = [trial for trial in complete if not trial.settings]
    if len(complete) < LEAST_COMPLETE or not len(space):
        return None
    best = sorted(complete, key=lambda trial: -(trial.value or 0.0))[:MOST_TRIALS]
    cube, values = space.encode([trial.values for trial in best]), np.array([trial.value or 0.0 for trial in best])
    unit = float(values.std())
    if not unit:
        return Prospect(0.0, 0.0)
    features, scores = space.features(cube), (values - values.mean()) / unit
    with one_thread():
        posterior = Posterior(fit(features, scores, space.owners()), features, scores)
        mean, deviation = posterior.predict(features)
        width = _width(len(space), len(best))

        def highest(points: Array) -> Array:
            at, around = posterior.predict(space.features(points))
            return at + width * around

        def improvement(points: Array) -> Array:
            return log_expected_improvement(*posterior.predict(space.features(points)), float(mean.max()))

        top = [_greatest(value, space, cube, seed) for value in (highest, improvement)]
    possible = max(top[0], float((mean + width * deviation).max())) - float((mean - width * deviation).max())
    return Prospect(unit * possible, unit * math.exp(top[1]))


def _greatest(value: Callable[[Array], Array], space: UnitCube, cube: Array, seed: int) -> float:
    """The greatest value that a random search around the best trials finds."""
    point = maximise(value, space, cube[:LEADERS], np.random.default_rng(seed))
    return float(value(point[None])[0])


def _width(parameters: int, trials: int) -> float:
    """Half the width of the confidence interval, in standard deviations of the model."""
    return math.sqrt(2 * math.log(parameters * trials**2 * math.pi**2 / (6 * RISK)) / TIGHTER)
