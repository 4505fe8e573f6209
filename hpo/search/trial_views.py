"""A study's trials as the policies are shown them: told apart by why they failed, and at steps that compare."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata

from hpo.ledger.attributes import PROGRESS_KEY, START_KEY
from hpo.spec.objectives import Objective


def others(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """All trials but `trial` that have parameters, in any state."""
    return [one for one in study.get_trials(deepcopy=False) if one.number != trial.number and one.params]


def without_losses(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """`trials`, but those that lost their worker too often as if they still ran: that says nothing of a configuration,
    which need not be tried again at once either."""
    return [_running(one) if _is_lost(one) else one for one in trials]


def by_rung(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """`trials`, but the values of pruned ones by number of the rung, from 0, instead of by epoch.

    One rung may be decided after another epoch in each trial: where rungs count compute, training on small images
    takes longer to get there, and does not get further by that.
    """
    decided = [one.user_attrs.get(PROGRESS_KEY, {}).get("rungs", ()) for one in trials]
    levels = sorted({decision["rung"] for decisions in decided for decision in decisions})
    return [
        _valued(one, {levels.index(decision["rung"]): decision["value"] for decision in decisions})
        if one.state == TrialState.PRUNED and decisions
        else one
        for one, decisions in zip(trials, decided, strict=True)
    ]


def last_value(trial: FrozenTrial) -> FrozenTrial:
    """A copy with nothing but what TPE ranks by, which takes a tenth of the time to add to another study."""
    changed = _valued(trial, dict([max(trial.intermediate_values.items())] if trial.intermediate_values else ()))
    changed.user_attrs, changed.system_attrs = {}, {}
    return changed


def _is_lost(trial: FrozenTrial) -> bool:
    attempts = trial.user_attrs.get(START_KEY, {}).get("attempts", ())
    return trial.state == TrialState.FAIL and bool(attempts) and attempts[-1]["lost"] is not None


def _running(trial: FrozenTrial) -> FrozenTrial:
    changed = copy.copy(trial)
    changed.state = TrialState.RUNNING
    return changed


def _valued(trial: FrozenTrial, values: dict[int, float]) -> FrozenTrial:
    changed = copy.copy(trial)
    changed.intermediate_values = values
    return changed


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
