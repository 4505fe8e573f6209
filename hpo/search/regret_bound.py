"""Optuna's bound on the possible improvement of a study. No other module knows its API."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MOST_TRIALS = 100
"""Only so many of the best complete trials count: a Gaussian process of more takes seconds."""
FEWEST_TRIALS = 5
"""With fewer complete trials there is no bound."""


def regret_bound(trials: Sequence[FrozenTrial], seed: int) -> float | None:
    """An upper bound, with high probability, on how much better than the best trial any configuration is.

    Optuna computes it from the complete trials of a study that maximises, after Makarova et al., "Automatic termination
    for hyperparameter optimization" (AutoML 2022). None if there are too few of them, or if they share no parameter.
    Also None if Optuna has no `optuna.terminator`, which it will remove in version 6; `budget.patience` then never
    stops a study.
    """
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.value is not None]
    shared = set.intersection(*(set(trial.distributions) for trial in complete)) if complete else set()
    if len(complete) < FEWEST_TRIALS or not shared:
        return None
    best = sorted(complete, key=lambda trial: -(trial.value or 0.0))[:MOST_TRIALS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls it experimental and deprecated
        try:
            from optuna.terminator import RegretBoundEvaluator
        except ImportError:
            return None
        evaluator = RegretBoundEvaluator(min_n_trials=FEWEST_TRIALS, seed=seed)
        return float(evaluator.evaluate(best, StudyDirection.MAXIMIZE))
