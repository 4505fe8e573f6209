"""Summary of simulated searches: regrets with errors, paired differences, budget to reach a quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.benchmarks.search.simulation import Run

Array = NDArray[np.float64]

SHARES = np.arange(1, 101) / 100
"""Shares of the budget at which regrets are computed."""
SHOWN = (0.2, 0.5, 1.0)
BASELINE, STOCK = "random", "stock"


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
class Summary:
    """The figures of one policy."""

    policy: str
    regret: dict[float, Estimate]
    """By share of the budget; errors over tasks."""
    curve: Array
    """Mean regret at each of `SHARES`."""
    curve_error: Array
    by_task: dict[str, float]
    """Mean final regret."""
    versus_baseline: Difference | None
    reaches_stock_at: float | None
    """Least share of the budget at which the mean regret is at most stock's final one."""
    trials: float
    """Mean number of trials per run."""
    suggestion_seconds: float
    """Mean processor time of a suggestion, seconds."""


def summarize(runs: dict[str, dict[str, list[Run]]]) -> list[Summary]:
    """Return one summary per policy; `runs` has one run per seed, by policy and task."""
    curves = {policy: _curves(by_task) for policy, by_task in runs.items()}
    goal = float(_mean_curve(curves[STOCK])[-1]) if STOCK in curves else None
    return [
        _summary(policy, by_task, curves[policy], curves.get(BASELINE) if policy != BASELINE else None, goal)
        for policy, by_task in runs.items()
    ]


def _summary(
    policy: str, by_task: dict[str, list[Run]], curves: Array, baseline: Array | None, goal: float | None
) -> Summary:
    tasks, every = list(by_task), [run for runs in by_task.values() for run in runs]
    means = curves.mean(axis=1)
    curve = _mean_curve(curves)
    reached = [float(share) for share, regret in zip(SHARES, curve, strict=True) if goal is not None and regret <= goal]
    return Summary(
        policy=policy,
        regret={share: estimate(means[:, round(share * 100) - 1]) for share in SHOWN},
        curve=curve,
        curve_error=_error(means),
        by_task=dict(zip(tasks, means[:, -1].tolist(), strict=True)),
        versus_baseline=None if baseline is None else _difference(tasks, curves[:, :, -1] - baseline[:, :, -1]),
        reaches_stock_at=reached[0] if reached else None,
        trials=float(np.mean([run.trials for run in every])),
        suggestion_seconds=float(np.concatenate([run.suggestion_seconds for run in every]).mean()),
    )


def _curves(by_task: dict[str, list[Run]]) -> Array:
    """Regrets as (task, seed, share of the budget)."""
    return np.array([[[run.regret_at(share) for share in SHARES] for run in runs] for runs in by_task.values()])


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
