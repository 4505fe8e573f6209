"""A study's trials as the policies are shown them: told apart by why they failed, and at steps that compare."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hpo.ledger.attributes import PROGRESS_KEY, START_KEY


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
