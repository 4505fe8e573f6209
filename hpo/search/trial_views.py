"""A study's trials as the samplers see them, with values that can be compared.

`of_frozen` and `of_record` read them. `without_accidents` forgives what no configuration causes, `by_rung` keys the
values of pruned trials by rung, `scalarised` joins several objectives into one: these return changed copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import rankdata

from hpo.ledger.attributes import of_trial, stored_epochs, stored_rungs
from hpo.ledger.outcome import Cause, Ending, optuna_state
from hpo.ledger.records import TrialRecord
from hpo.ledger.tables.names import OUTCOME_KEY, SETTINGS_KEY, START_KEY
from hpo.search.policies.seen import Seen
from hpo.spec.objectives import Objective

AUGMENTATION = 0.05
"""Weight of the plain sum, which ranks weakly dominated points below others (Knowles' rho)."""


def of_frozen(trial: FrozenTrial, objectives: Sequence[Objective] = ()) -> Seen:
    """A trial as Optuna has it."""
    attributes = of_trial(trial)
    epochs = stored_epochs(attributes) if objectives[1:] else ()
    return Seen(
        number=trial.number,
        params=trial.params,
        state=TrialState.PRUNED if _is_kept(trial) else trial.state,
        values=trial.intermediate_values,
        final=trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None,
        rungs={decision["rung"]: decision["value"] for decision in stored_rungs(attributes)},
        beside=tuple(_beside(epochs, objective) for objective in objectives[1:]),
        reference=bool(attributes.get(SETTINGS_KEY)),
        accident=_is_accident(trial),
    )


def of_record(trial: TrialRecord, objectives: Sequence[Objective] = ()) -> Seen:
    """A trial that has started, as the ledger records it."""
    outcome, others = trial.outcome, ((objective, objective.of(trial.metrics)) for objective in objectives[1:])
    return Seen(
        number=trial.number,
        params=trial.values,
        state=TrialState.RUNNING
        if outcome is None
        else TrialState[optuna_state(outcome.ending, judged=bool(trial.rungs))],
        values={epoch.metrics.epoch: epoch.value for epoch in trial.epochs},
        final=trial.value if trial.complete else None,
        rungs={decision.rung: decision.value for decision in trial.rungs},
        beside=tuple(np.nan if value is None else objective.score(value) for objective, value in others),
        reference=bool(trial.settings),
        accident=not _teaches(trial),
    )


def without_accidents(trials: Iterable[Seen]) -> list[Seen]:
    """The trials, with those shown as running that failed for a reason that no configuration causes.

    A lost worker, a node that lacks the data, a mistake in the trainer, or a person who stops a trial before its first
    rung says nothing about a configuration. And while the trial counts as running, its configuration is not tried
    again.
    """
    return [replace(trial, state=TrialState.RUNNING) if trial.accident else trial for trial in trials]


def by_rung(trials: Sequence[Seen], levels: Sequence[float] | None = None) -> list[Seen]:
    """The trials, with the values of pruned trials keyed by number of the rung, from 0, instead of by epoch.

    A rung may be decided after another epoch in each trial: if rungs count compute, a training with small images
    needs more epochs to reach a rung, but has not trained more.

    Args:
        levels: all rungs that were decided, ascending; None: those of the trials.
    """
    if levels is None:
        levels = sorted({level for trial in trials for level in trial.rungs})
    return [
        replace(trial, values={levels.index(level): value for level, value in trial.rungs.items()})
        if trial.state == TrialState.PRUNED and trial.rungs
        else trial
        for trial in trials
    ]


def scalarised(trials: Sequence[Seen], objectives: Sequence[Objective], rng: np.random.Generator) -> list[Seen]:
    """Copies of the trials with one value for all objectives, weighted at random; larger is better.

    The augmented Chebyshev scalarisation of ranks (Knowles, "ParEGO", IEEE Trans. Evol. Comput. 10, 2006). The first
    objective is the intermediate value of each epoch; the others come from the trial's recorded progress. Failed trials
    keep their state and lose their values.
    """
    weights = rng.dirichlet(np.ones(len(objectives)))
    rows = [
        (index, epoch, value)
        for index, trial in enumerate(trials)
        for epoch, value in sorted(trial.values.items())
        if math.isfinite(value)
    ]
    if not rows:
        return [replace(trial, values={}, final=None) for trial in trials]
    owners = np.array([index for index, _, _ in rows])
    columns = [_ranks(np.array([value for _, _, value in rows]))]
    for column in np.array([trial.beside for trial in trials]).T:
        known = np.isfinite(column)
        ranks = np.full(len(trials), 0.5)  # the middle, for trials whose value is not known
        ranks[known] = _ranks(column[known])
        columns.append(ranks[owners])
    losses = weights[:, None] * (1 - np.array(columns))  # how far each objective is from its best rank
    curves: list[dict[int, float]] = [{} for _ in trials]
    for (index, epoch, _), value in zip(rows, -losses.max(0) - AUGMENTATION * losses.sum(0), strict=True):
        curves[index][epoch] = float(value)
    return [
        replace(trial, values=curve, final=curve[max(curve)] if curve and trial.state == TrialState.COMPLETE else None)
        for trial, curve in zip(trials, curves, strict=True)
    ]


def _is_kept(trial: FrozenTrial) -> bool:
    """Whether it waits because it may be taken up again, though it was pruned."""
    return trial.state == TrialState.WAITING and bool((trial.user_attrs.get(OUTCOME_KEY) or {}).get("kept"))


def _is_accident(trial: FrozenTrial) -> bool:
    if trial.state != TrialState.FAIL:
        return False
    outcome = trial.user_attrs.get(OUTCOME_KEY) or {}
    if outcome.get("ending") == Ending.STOPPED.value:
        return True
    if "cause" in outcome:
        return not Cause(outcome["cause"]).teaches
    attempts = of_trial(trial).get(START_KEY, {}).get("attempts", ())  # in older records only lost workers are known
    return bool(attempts) and attempts[-1]["lost"] is not None


def _teaches(trial: TrialRecord) -> bool:
    """The contrary of `_is_accident`."""
    outcome = trial.outcome
    if outcome is not None and outcome.ending is Ending.STOPPED:
        return bool(trial.rungs)
    if outcome is None or outcome.ending is not Ending.FAILED:
        return True
    if outcome.cause is not None:
        return outcome.cause.teaches
    return not trial.attempts or trial.attempts[-1].lost is None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0 to 1; equal values share their mean rank."""
    return np.asarray((rankdata(values) - 0.5) / max(len(values), 1))


def _beside(epochs: Iterable[Mapping[str, Any]], objective: Objective) -> float:
    """The trial's value of an objective, larger is better; NaN if it is not known."""
    name = objective.field
    value = objective.value([epoch.get(name, (epoch.get("own") or {}).get(name)) for epoch in epochs])
    return np.nan if value is None else objective.score(value)
