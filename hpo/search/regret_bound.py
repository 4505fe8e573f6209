"""Optuna's bound on what a study can still gain, in the one place that knows its API."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MOST_TRIALS = 100
"""The best so many complete trials are looked at: a Gaussian process of more takes seconds."""
FEWEST_TRIALS = 5
"""Of fewer complete trials nothing is concluded."""


def regret_bound(trials: Sequence[FrozenTrial], seed: int) -> float | None:
    """An upper bound, with high probability, on how much better than the best trial any configuration is.

    After Makarova et al., "Automatic termination for hyperparameter optimization" (AutoML 2022), as Optuna computes
    it from the complete trials of a study that maximises. None where it cannot be told: too few of them, or no
    parameter that all of them have. `optuna.terminator` is announced to leave Optuna with version 6; without it
    this is None too, and patience has no end.
    """
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.value is not None]
    shared = set.intersection(*(set(trial.distributions) for trial in complete)) if complete else set()
    if len(complete) < FEWEST_TRIALS or not shared:
        return None
    best = sorted(complete, key=lambda trial: -(trial.value or 0.0))[:MOST_TRIALS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called experimental and deprecated at once
        try:
            from optuna.terminator import RegretBoundEvaluator
        except ImportError:
            return None
        evaluator = RegretBoundEvaluator(min_n_trials=FEWEST_TRIALS, seed=seed)
        return float(evaluator.evaluate(best, StudyDirection.MAXIMIZE))
