"""Several objectives as one: what lets policies made for a single objective search a whole front.

ParEGO's way (Knowles, IEEE Transactions on Evolutionary Computation 10, 2006): every suggestion draws weights of its
own and minimises the augmented Chebyshev distance to the best of each objective, so that different suggestions aim
at different parts of the front. Objectives are compared by their ranks in the study, which need no scale.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata

from hpo.ledger.attributes import PROGRESS_KEY
from hpo.results.pareto import Objective

AUGMENTATION = 0.05
"""Weight of the plain sum, which keeps weakly dominated points below others (Knowles' rho)."""


def scalarised(
    trials: Sequence[FrozenTrial], objectives: Sequence[Objective], rng: np.random.Generator
) -> list[FrozenTrial]:
    """Copies of `trials` without attributes, whose values, larger is better, weigh all objectives at random.

    The first objective varies with the epoch, the others count as a trial's progress has them. Failed trials keep
    their state and lose their values; a trial without any progress is as it was.
    """
    weights = rng.dirichlet(np.ones(len(objectives)))
    rows = [
        (index, epoch, value)
        for index, trial in enumerate(trials)
        for epoch, value in sorted(trial.intermediate_values.items())
        if np.isfinite(value)
    ]
    copies = [copy.copy(trial) for trial in trials]
    for one in copies:
        one.intermediate_values, one.values, one.user_attrs, one.system_attrs = {}, None, {}, {}
    if not rows:
        return copies
    owners = np.array([index for index, _, _ in rows])
    columns = [_ranks(np.array([value for _, _, value in rows]))]
    for objective in objectives[1:]:
        column = np.array([_value(trial, objective) for trial in trials])
        known = np.isfinite(column)
        ranks = np.full(len(trials), 0.5)  # not known: in the middle
        ranks[known] = _ranks(column[known])
        columns.append(ranks[owners])
    short = weights[:, None] * (1 - np.array(columns))  # of the best in each objective
    for (index, epoch, _), value in zip(rows, -short.max(0) - AUGMENTATION * short.sum(0), strict=True):
        copies[index].intermediate_values[epoch] = float(value)
    for one in copies:
        if one.state == TrialState.COMPLETE and one.intermediate_values:
            one.values = [one.intermediate_values[max(one.intermediate_values)]]
    return copies


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1; equal values share their mean rank."""
    return np.asarray((rankdata(values) - 0.5) / max(len(values), 1))


def _value(trial: FrozenTrial, objective: Objective) -> float:
    """Larger is better; NaN where it is not known."""
    epochs: Sequence[Mapping[str, Any]] = trial.user_attrs.get(PROGRESS_KEY, {}).get("epochs", ())
    value = objective.value([epoch.get(objective.field) for epoch in epochs])
    return np.nan if value is None else objective.score(value)
