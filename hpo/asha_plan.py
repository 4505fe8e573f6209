"""What ASHA will probably do to a study: how many trials reach each rung, and how many epochs that takes."""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass

from hpo.asha import Asha, rung_levels
from hpo.specification import Spec
from trainers import schedule

SIMULATED_TRIALS = 4_000
"""Trials simulated in all; more make the expectation smoother, not truer."""
LARGEST_SIMULATION = 1_000
"""Trials of one simulated study; a larger one has the same shares."""


@dataclass(frozen=True)
class RungPlan:
    """One rung as expected."""

    level: float
    """In units of the study's ASHA resource."""
    epoch: int
    """After which epoch a trial of the baseline's shape arrives there, from 1."""
    reached: float
    """Expected number of trials that arrive."""


@dataclass(frozen=True)
class AshaPlan:
    """All rungs, and what they add up to."""

    rungs: tuple[RungPlan, ...]
    trials: int
    complete: float
    """Expected number of trials that train to the end."""
    epochs: float
    """Expected epochs of all trials together."""
    share: float
    """`epochs` over those of the same trials without pruning, 0 to 1."""


def plan(spec: Spec) -> AshaPlan:
    """What to expect of a study.

    Found by sending random values through the rungs, in random order and one trial after another; a trial keeps
    its rank at every rung. The asynchronous rule lets more early arrivals pass than one in `reduction_factor`,
    which a formula would miss. The first enqueued trial runs to its end whatever its rank.
    """
    horizon, trials = spec.train.epochs, spec.budget.trials
    if not spec.asha.enabled:
        return AshaPlan((), trials, trials, trials * horizon, 1.0)
    levels = rung_levels(spec.asha.grace_period, spec.asha.reduction_factor, horizon)
    epochs = tuple(_epoch_of(spec, level) for level in levels)
    # A level counted in compute may lie beyond the last epoch; nobody reaches it.
    within = tuple((level, epoch) for level, epoch in zip(levels, epochs, strict=True) if epoch < horizon)
    reached = _arrivals(
        tuple(level for level, _ in within), float(spec.asha.reduction_factor), trials, bool(spec.enqueue)
    )
    ends = [*(epoch for _, epoch in within), horizon]
    spent = sum((end - start) * count for start, end, count in zip([0, *ends], ends, reached, strict=False))
    rungs = tuple(RungPlan(level, epoch, count) for (level, epoch), count in zip(within, reached, strict=False))
    return AshaPlan(rungs, trials, reached[-1], spent, spent / (trials * horizon))


def _epoch_of(spec: Spec, level: float) -> int:
    """The first epoch after which the baseline's training has used `level` of the resource."""
    if spec.asha.resource == "epochs":
        return math.ceil(level)
    train = spec.base().train
    stages = schedule.stages(train.progressive, train.epochs)
    return next(
        (epoch for epoch in range(1, train.epochs + 1) if schedule.compute(stages, epoch) >= level),
        train.epochs,
    )


@functools.lru_cache(maxsize=8)
def _arrivals(levels: tuple[float, ...], reduction_factor: float, trials: int, control: bool) -> tuple[float, ...]:
    """Expected number of trials at each rung, and last of those that pass all of them."""
    simulated = min(trials, LARGEST_SIMULATION)
    repeats = max(1, SIMULATED_TRIALS // simulated)
    chance = random.Random(0)
    totals = [0] * (len(levels) + 1)
    for _ in range(repeats):
        asha = Asha(levels, reduction_factor)
        for trial in range(simulated):
            value = chance.random()
            for rung, level in enumerate(levels):
                totals[rung] += 1
                decision = asha.decide(trial, level, value)
                if decision is not None and not decision.keep and not (control and trial == 0):
                    break
            else:
                totals[-1] += 1
    return tuple(total / repeats * trials / simulated for total in totals)
