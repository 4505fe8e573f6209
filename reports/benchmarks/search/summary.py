"""Summary of simulated searches: regrets with errors, paired differences, budget to reach a quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reports.benchmarks.search.virtual_time import Run

Array = NDArray[np.float64]

SHARES = np.arange(1, 101) / 100
"""Shares of the budget at which regrets are computed."""
SHOWN = (0.2, 0.5, 1.0)
BASELINE, STOCK = "random", "stock"
REFERENCE = "gp"
"""The policy that all others are compared with."""

Measure = Literal["delivered", "known"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""See `Run`."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"


@dataclass(frozen=True)
class Difference:
    """A policy's final regret minus the baseline's, task by task, over equal seeds; negative is better."""

    overall: Estimate
    """Over tasks."""
    by_task: dict[str, Estimate]
    """Over seeds."""

    def worse_tasks(self) -> list[str]:
        """Return the tasks on which the policy is worse by more than two standard errors."""
        return [
            task
            for task, difference in self.by_task.items()
            if difference.mean > 2 * difference.error and difference.mean > 0
        ]


@dataclass(frozen=True)
class Regret:
    """The regret of one policy by one measure."""

    at: dict[float, Estimate]
    """By share of the budget; errors over tasks."""
    minus_reference: dict[float, Estimate] | None
    """The regret minus that of `REFERENCE` over equal tasks and seeds, by share of the budget; errors over tasks.
    None for the reference itself, or without it."""
    minus_baseline: Difference | None
    curve: Array
    """Mean regret at each of `SHARES`."""
    curve_error: Array
    by_task: dict[str, float]
    """Mean final regret."""
    reaches_stock_at: float | None
    """Least share of the budget at which the mean regret is at most stock's final one."""


@dataclass(frozen=True)
class Summary:
    """The figures of one policy."""

    policy: str
    regret: dict[Measure, Regret]
    trials: float
    """Mean number of trials per run."""
    suggestion_seconds: float
    """Mean processor time of a suggestion, seconds."""


def summarize(runs: dict[str, dict[str, list[Run]]]) -> list[Summary]:
    """Return one summary per policy; `runs` has one run per seed, by policy and task."""
    measured = {measure: _regrets(runs, measure) for measure in MEASURES}
    return [
        Summary(
            policy=policy,
            regret={measure: measured[measure][policy] for measure in MEASURES},
            trials=float(np.mean([run.trials for of_task in by_task.values() for run in of_task])),
            suggestion_seconds=float(
                np.concatenate([run.suggestion_seconds for of_task in by_task.values() for run in of_task]).mean()
            ),
        )
        for policy, by_task in runs.items()
    ]


def _regrets(runs: dict[str, dict[str, list[Run]]], measure: Measure) -> dict[str, Regret]:
    curves = {policy: _curves(by_task, measure) for policy, by_task in runs.items()}
    goal = float(_mean_curve(curves[STOCK])[-1]) if STOCK in curves else None
    return {
        policy: _regret(
            list(by_task),
            curves[policy],
            reference=curves.get(REFERENCE) if policy != REFERENCE else None,
            baseline=curves.get(BASELINE) if policy != BASELINE else None,
            goal=goal,
        )
        for policy, by_task in runs.items()
    }


def _regret(
    tasks: list[str], curves: Array, *, reference: Array | None, baseline: Array | None, goal: float | None
) -> Regret:
    means, curve = curves.mean(axis=1), _mean_curve(curves)
    reached = [float(share) for share, regret in zip(SHARES, curve, strict=True) if goal is not None and regret <= goal]
    return Regret(
        at=_at_shown(means),
        minus_reference=None if reference is None else _at_shown((curves - reference).mean(axis=1)),
        minus_baseline=None if baseline is None else _difference(tasks, curves[:, :, -1] - baseline[:, :, -1]),
        curve=curve,
        curve_error=_error(means),
        by_task=dict(zip(tasks, means[:, -1].tolist(), strict=True)),
        reaches_stock_at=reached[0] if reached else None,
    )


def _at_shown(means: Array) -> dict[float, Estimate]:
    """Estimates at the shares `SHOWN`, from means by task and share."""
    return {share: estimate(means[:, round(share * 100) - 1]) for share in SHOWN}


def _curves(by_task: dict[str, list[Run]], measure: Measure) -> Array:
    """Regrets as (task, seed, share of the budget)."""
    return np.array(
        [[[getattr(run, measure).regret_at(share) for share in SHARES] for run in runs] for runs in by_task.values()]
    )


def _mean_curve(curves: Array) -> Array:
    return np.asarray(curves.mean(axis=1).mean(axis=0))


def _difference(tasks: list[str], differences: Array) -> Difference:
    by_task = {task: estimate(over_seeds) for task, over_seeds in zip(tasks, differences, strict=True)}
    return Difference(estimate(differences.mean(axis=1)), by_task)


def estimate(values: Array) -> Estimate:
    """Return mean and standard error over the first axis. The error of a single value is NaN."""
    return Estimate(float(values.mean()), float(_error(values)))


def _error(values: Array) -> Array:
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
