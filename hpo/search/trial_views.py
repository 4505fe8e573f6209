"""A study's trials as the samplers see them: Optuna's records, with values that can be compared.

All functions change copies only. `without_accidents` forgives what no configuration causes, `by_rung` keys the values
of pruned trials by rung, `last_value` keeps only what TPE ranks by, `scalarised` joins several objectives into one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata

from hpo.ledger.attributes import OUTCOME_KEY, PROGRESS_KEY, START_KEY
from hpo.ledger.outcome import Cause
from hpo.spec.objectives import Objective

AUGMENTATION = 0.05
"""Weight of the plain sum, which ranks weakly dominated points below others (Knowles' rho)."""


def others(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """All other trials that have parameters, in any state."""
    return [other for other in study.get_trials(deepcopy=False) if other.number != trial.number and other.params]


def without_accidents(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials, with those shown as running that failed for a reason that no configuration causes.

    A lost worker, a node that lacks the data, or a mistake in the trainer says nothing about a configuration. And while
    the trial counts as running, its configuration is not tried again.
    """
    return [_running(trial) if _is_accident(trial) else trial for trial in trials]


def by_rung(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials, with the values of pruned trials keyed by number of the rung, from 0, instead of by epoch.

    A rung may be decided after another epoch in each trial: if rungs count compute, a training with small images
    needs more epochs to reach a rung, but has not trained more.
    """
    decided = [trial.user_attrs.get(PROGRESS_KEY, {}).get("rungs", ()) for trial in trials]
    levels = sorted({decision["rung"] for decisions in decided for decision in decisions})
    return [
        _with_values(trial, {levels.index(decision["rung"]): decision["value"] for decision in decisions})
        if trial.state == TrialState.PRUNED and decisions
        else trial
        for trial, decisions in zip(trials, decided, strict=True)
    ]


def last_value(trial: FrozenTrial) -> FrozenTrial:
    """A copy that has only what TPE ranks by. Adding it to another study takes a tenth of the time."""
    changed = _with_values(trial, dict([max(trial.intermediate_values.items())] if trial.intermediate_values else ()))
    changed.user_attrs, changed.system_attrs = {}, {}
    return changed


def scalarised(
    trials: Sequence[FrozenTrial], objectives: Sequence[Objective], rng: np.random.Generator
) -> list[FrozenTrial]:
    """Copies of the trials with one value for all objectives, weighted at random; larger is better.

    The augmented Chebyshev scalarisation of ranks (Knowles, "ParEGO", IEEE Trans. Evol. Comput. 10, 2006). The first
    objective is the intermediate value of each epoch; the others come from the trial's recorded progress. Failed trials
    keep their state and lose their values. The copies have no attributes.
    """
    weights = rng.dirichlet(np.ones(len(objectives)))
    rows = [
        (index, epoch, value)
        for index, trial in enumerate(trials)
        for epoch, value in sorted(trial.intermediate_values.items())
        if np.isfinite(value)
    ]
    copies = [copy.copy(trial) for trial in trials]
    for changed in copies:
        changed.intermediate_values, changed.values, changed.user_attrs, changed.system_attrs = {}, None, {}, {}
    if not rows:
        return copies
    owners = np.array([index for index, _, _ in rows])
    columns = [_ranks(np.array([value for _, _, value in rows]))]
    for objective in objectives[1:]:
        column = np.array([_value(trial, objective) for trial in trials])
        known = np.isfinite(column)
        ranks = np.full(len(trials), 0.5)  # the middle, for trials whose value is not known
        ranks[known] = _ranks(column[known])
        columns.append(ranks[owners])
    losses = weights[:, None] * (1 - np.array(columns))  # how far each objective is from its best rank
    for (index, epoch, _), value in zip(rows, -losses.max(0) - AUGMENTATION * losses.sum(0), strict=True):
        copies[index].intermediate_values[epoch] = float(value)
    for changed in copies:
        if changed.state == TrialState.COMPLETE and changed.intermediate_values:
            changed.values = [changed.intermediate_values[max(changed.intermediate_values)]]
    return copies


def _is_accident(trial: FrozenTrial) -> bool:
    if trial.state != TrialState.FAIL:
        return False
    outcome = trial.user_attrs.get(OUTCOME_KEY) or {}
    if "cause" in outcome:
        return not Cause(outcome["cause"]).teaches
    attempts = trial.user_attrs.get(START_KEY, {}).get("attempts", ())  # in older records only lost workers are known
    return bool(attempts) and attempts[-1]["lost"] is not None


def _running(trial: FrozenTrial) -> FrozenTrial:
    changed = copy.copy(trial)
    changed.state = TrialState.RUNNING
    return changed


def _with_values(trial: FrozenTrial, values: dict[int, float]) -> FrozenTrial:
    changed = copy.copy(trial)
    changed.intermediate_values = values
    return changed


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0 to 1; equal values share their mean rank."""
    return np.asarray((rankdata(values) - 0.5) / max(len(values), 1))


def _value(trial: FrozenTrial, objective: Objective) -> float:
    """The trial's value of an objective, larger is better; NaN if it is not known."""
    epochs: Sequence[Mapping[str, Any]] = trial.user_attrs.get(PROGRESS_KEY, {}).get("epochs", ())
    value = objective.value([epoch.get(objective.field) for epoch in epochs])
    return np.nan if value is None else objective.score(value)
