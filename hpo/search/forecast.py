"""What ASHA will probably do to a study: how many trials reach each rung, and how many epochs that takes."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from hpo.search.asha import AshaPruner
from hpo.search.pruning_audit import ENOUGH_CONTROLS, LEAST_CONTROLS
from hpo.search.rungs import DECIDE_SIZES, training_rungs
from hpo.spec.configure import configure
from hpo.spec.corners import corners, subspace
from hpo.spec.parameters import CategoricalParameter, IntParameter
from hpo.spec.seeds import is_control
from hpo.spec.study import Spec
from trainers.api import TrainConfig
from trainers.schedule import rising_epochs

SIMULATED_TRIALS = 4_000
"""Trials simulated in all; more make the expectation smoother, not truer."""
LARGEST_SIMULATION = 1_000
"""Trials of one simulated study; a larger one has the same shares."""

STAGES = "train.progressive.stages"
SCHEDULING = (*sorted(DECIDE_SIZES), "train.schedule", "train.warmup_epochs")
"""Parameters that decide when a trial is judged, and how it learns until then."""


@dataclass(frozen=True)
class RungPlan:
    """One rung as expected."""

    level: float
    """In units of the study's ASHA resource."""
    epoch: int
    """After which epoch a trial of the baseline's shape is judged there, from 1."""
    span: tuple[int, int]
    """The same for the earliest and the latest configuration of the space."""
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
    which a formula would miss. Controls and the first enqueued trial run to their end whatever their rank.
    """
    horizon, trials = spec.train.epochs, spec.budget.trials
    if not spec.asha.enabled:
        return AshaPlan((), trials, trials, trials * horizon, 1.0)
    # A level counted in compute may lie beyond the last epoch; nobody reaches it.
    within = training_rungs(spec, spec.base().train)
    controls = frozenset(
        number
        for number in range(min(trials, LARGEST_SIMULATION))
        if (number == 0 and spec.enqueue) or is_control(spec.seed, number, spec.asha.controls)
    )
    reached = _arrivals(tuple(within.values()), float(spec.asha.reduction_factor), trials, controls)
    ends = [*within, horizon]
    spent = sum((end - start) * count for start, end, count in zip([0, *ends], ends, reached, strict=False))
    spans = _spans(spec)
    rungs = tuple(
        RungPlan(level, epoch, spans[level], count)
        for (epoch, level), count in zip(within.items(), reached, strict=False)
    )
    return AshaPlan(rungs, trials, reached[-1], spent, spent / (trials * horizon))


def _spans(spec: Spec) -> dict[float, tuple[int, int]]:
    """The earliest and the latest epoch after which each rung is decided."""
    epochs: dict[float, list[int]] = {}
    for train in (spec.base().train, *trainings(spec)):
        for epoch, level in training_rungs(spec, train).items():
            epochs.setdefault(level, []).append(epoch)
    return {level: (min(found), max(found)) for level, found in epochs.items()}


def trainings(spec: Spec) -> Iterator[TrainConfig]:
    """The training settings at the corners of the space, as far as they decide when a trial is judged; with every
    number of stages, since the extremes need not lie at its ends."""
    base, parameters = spec.base(), subspace(spec.space, SCHEDULING)
    stages = parameters.get(STAGES)
    if isinstance(stages, IntParameter):
        counts = tuple(range(stages.low, stages.high + 1, stages.step))
        parameters[STAGES] = CategoricalParameter(type="categorical", choices=counts, when=stages.when)
    return (configure(base, corner).train for corner in corners(parameters).combinations)


@functools.lru_cache(maxsize=8)
def _arrivals(
    levels: tuple[float, ...], reduction_factor: float, trials: int, controls: frozenset[int]
) -> tuple[float, ...]:
    """Expected number of trials at each rung, and last of those that train to the end."""
    simulated = min(trials, LARGEST_SIMULATION)
    repeats = max(1, SIMULATED_TRIALS // simulated)
    chance = random.Random(0)
    totals = [0] * (len(levels) + 1)
    for _ in range(repeats):
        asha = AshaPruner(levels, reduction_factor)
        for trial in range(simulated):
            value, stopped = chance.random(), False
            for rung, level in enumerate(levels):
                totals[rung] += 1
                if not stopped:
                    decision = asha.decide(trial, level, value)
                    stopped = decision is not None and not decision.keep
                if stopped and trial not in controls:
                    break
            else:
                totals[-1] += 1
    return tuple(total / repeats * trials / simulated for total in totals)


def advice(spec: Spec) -> list[str]:
    """Warnings, each one sentence; none is the normal case."""
    return [*_early_rungs(spec), *_few_controls(spec)]


def _early_rungs(spec: Spec) -> Iterator[str]:
    """Values of a training that still warms up say little about how it ends."""
    if not spec.asha.enabled:
        return
    found = [(rising_epochs(train), _first(spec, train)) for train in trainings(spec)]
    early = [(rising, first) for rising, first in found if first < rising]
    if early:
        rising, first = max(early, key=lambda one: one[0] - one[1])
        yield (
            f"the grace period ends inside the warm-up{'' if len(early) == len(found) else ' of some configurations'}: "
            f"they are judged after epoch {first}, while the learning rate rises for {rising:g} epochs; "
            "raise asha.grace_period, or shorten train.warmup_epochs"
        )


def _few_controls(spec: Spec) -> Iterator[str]:
    """A share of controls that costs something and tells nothing."""
    share, trials = spec.asha.controls, spec.budget.trials
    count = sum(is_control(spec.seed, number, share) for number in range(trials))
    if spec.asha.enabled and share and count < LEAST_CONTROLS:
        yield (
            f"asha.controls: {share:g} of {trials} trials makes {count} controls; hpo audit needs at least "
            f"{LEAST_CONTROLS}, and {ENOUGH_CONTROLS} for advice"
        )


def _first(spec: Spec, train: TrainConfig) -> int:
    """After which epoch a training is judged first; its last where it meets no rung."""
    return min(training_rungs(spec, train), default=train.epochs)
