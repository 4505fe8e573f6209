"""What the pruning of a study probably cost: where its pruned trials would have ended, foretold from its controls.

Controls were trained to the end whatever ASHA decided, so they show how values at a rung go with final values. For each
rung a straight line through the controls foretells the end of every trial that was pruned there; its parameters are
drawn from their posterior with the usual flat prior (Gelman et al., "Bayesian Data Analysis", 2013, section 14.2). The
cost is how far the best of these ends lies above the best complete trial, and 0 if none does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo.ledger.records import StudyRecord
from hpo.search.rungs import training_rungs
from hpo.spec.configure import configure
from hpo.spec.objectives import Objective

Array = NDArray[np.float64]

LEAST = 5
"""Fewer controls at a rung foretell nothing: a line through them leaves less than three degrees of freedom."""
DRAWS = 1_000
"""Draws of the lines and the ends; a chance of 5 % has a standard error of 0.7 points."""
BLOCK = 256
"""Pruned trials that are foretold at once, so that a large study takes little memory."""


@dataclass(frozen=True)
class PruningCost:
    """What the pruning probably cost, in units of the score; of an accuracy as a fraction."""

    pruned: int
    """Trials that were pruned."""
    controls: int
    """Complete controls."""
    mean: float | None
    """Expected cost, 0 or more; None if it cannot be told, or if no trial is complete."""
    low: float = 0.0
    high: float = 0.0
    """95 % interval of the cost."""
    above: float = 0.0
    """Expected number of pruned trials that would have ended above the best complete one."""


def pruning_cost(study: StudyRecord) -> PruningCost:
    """What the pruning of a study cost, as far as its controls can tell."""
    pruned: dict[float, list[float]] = {}
    for trial in study.trials:
        if trial.status == "pruned" and (last := next((rung for rung in trial.rungs if not rung.keep), None)):
            pruned.setdefault(last.rung, []).append(last.value)
    controls = _controls(study)
    count = sum(map(len, pruned.values()))
    if not count:
        return PruningCost(0, len(controls), 0.0)
    best = study.best.value if study.best else None
    pairs = {rung: [(at[rung], end) for at, end in controls if rung in at] for rung in pruned}
    if best is None or min(map(len, pairs.values())) < LEAST:
        return PruningCost(count, len(controls), None)
    most = 1.0 if study.spec.objective.is_accuracy else np.inf
    highest, above = _foretold(pruned, pairs, best, most)
    cost = np.maximum(highest - best, 0.0)
    low, high = np.percentile(cost, [2.5, 97.5])
    return PruningCost(count, len(controls), float(cost.mean()), float(low), float(high), above)


def _controls(study: StudyRecord) -> list[tuple[dict[float, float], float]]:
    """Of each complete control its value at every rung, and its final score."""
    base, found = study.spec.base(), []
    for trial in study.trials:
        if trial.control and trial.complete:
            rungs = training_rungs(study.spec, configure(base, trial.assigned).train)
            values = [epoch.value for epoch in trial.epochs]
            found.append(({level: values[at - 1] for at, level in rungs.items()}, values[-1]))
    return found


def _foretold(
    pruned: Mapping[float, Sequence[float]],
    controls: Mapping[float, Sequence[tuple[float, float]]],
    best: float,
    most: float,
) -> tuple[Array, float]:
    """Draws of the highest end of all pruned trials, (`DRAWS`,), and the expected number of ends above `best`."""
    random = np.random.default_rng(0)
    highest, above = np.full(DRAWS, -np.inf), 0
    for rung, values in pruned.items():
        early, late = np.array(controls[rung]).T
        centre = early.mean()
        slope, level, noise = _lines(early - centre, late, random)
        for start in range(0, len(values), BLOCK):
            block = np.array(values[start : start + BLOCK]) - centre
            ends = level + slope * block + noise * random.standard_normal((DRAWS, len(block)))
            ends = np.minimum(ends, most)
            highest = np.maximum(highest, ends.max(axis=1))
            above += int((ends > best).sum())
    return highest, above / DRAWS


def _lines(early: Array, late: Array, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Slopes, levels and noise of lines drawn from their posterior, (`DRAWS`, 1) each; `early` has the mean 0."""
    spread = float(early @ early)
    slope = float(early @ late) / spread if spread else 0.0
    freedom = len(early) - 2
    squares = float(((late - late.mean() - slope * early) ** 2).sum())
    noise = np.sqrt(squares / random.chisquare(freedom, (DRAWS, 1)))
    levels = late.mean() + noise * random.standard_normal((DRAWS, 1)) / np.sqrt(len(early))
    slopes = slope + (noise * random.standard_normal((DRAWS, 1)) / np.sqrt(spread) if spread else 0.0)
    return slopes + np.zeros_like(noise), levels, noise


def sentence(cost: PruningCost, objective: Objective) -> str:
    """The cost in one sentence. Terminal, report and MLflow say it in these words."""
    if not cost.pruned:
        return "Pruning cost nothing: no trial was pruned."
    trials = "1 pruned trial" if cost.pruned == 1 else f"{cost.pruned} pruned trials"
    if cost.mean is None:
        controls = "1 control" if cost.controls == 1 else f"{cost.controls} controls"
        return (
            f"What the pruning of {trials} cost cannot be told with {controls} that trained to the end: it takes "
            f"{LEAST} or more."
        )
    mean, low, high = (amount(value, objective) for value in (cost.mean, cost.low, cost.high))
    nothing = amount(0.0, objective)
    unit = "" if not objective.is_accuracy else " points"
    count = round(cost.above)
    risen = f"{count} may have ended above the best" if count else "probably none would have ended above the best"
    probably = "nothing" if mean == nothing else f"{mean}{unit or f' in {objective.label}'}"
    return (
        f"Pruning probably cost {probably} (95 %: {low} to {high}{unit}): of {trials}, {risen}, as "
        f"{cost.controls} controls tell."
    )


def remark(study: StudyRecord) -> str:
    """The sentence about a study; empty where nothing can be pruned, and while the study goes on."""
    if not study.spec.asha.enabled or study.ended is None:
        return ""
    return sentence(pruning_cost(study), study.spec.objective)


def amount(cost: float, objective: Objective) -> str:
    """`0.2`: a cost in points of accuracy, or in units of another objective."""
    return (f"{100 * cost:.1f}" if objective.is_accuracy else f"{cost:.2g}").removesuffix(".0")
