"""What ASHA will probably do to a study before it runs: how many trials reach each rung, and what to change.

`plan` simulates the rungs; `advice` warns of settings that make the first rung or the controls useless.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from hpo.search.asha import AshaPruner
from hpo.search.pruning_audit import ENOUGH_CONTROLS, LEAST_CONTROLS
from hpo.search.rungs import DECIDE_SIZES, training_rungs
from hpo.spec.configure import assign, configure
from hpo.spec.corners import corners, subspace
from hpo.spec.enqueued import parts
from hpo.spec.parameters import CategoricalParameter, IntParameter
from hpo.spec.seeds import is_control
from hpo.spec.study import Spec
from trainers import schedule
from trainers.api import TrainConfig
from trainers.schedule import rising_epochs

SIMULATED_TRIALS = 4_000
"""Simulated trials in all; more would make the forecast smoother, but not more accurate."""
LARGEST_SIMULATION = 1_000
"""Most trials of one simulated study; a larger study has the same shares."""

STAGES = "train.progressive.stages"
CLIFF = 5
"""Magnitude below which the published form of RandAugment changes images as much as at it."""
START, END = "train.progressive.randaugment.start", "train.progressive.randaugment.end"
MAGNITUDES = (START, END, STAGES, "train.progressive.form", "train.augment.randaugment_")
SCHEDULING = (*sorted(DECIDE_SIZES), "train.schedule", "train.warmup_epochs")
"""Parameters that decide when a trial is judged, and how fast it learns until then."""


@dataclass(frozen=True)
class RungPlan:
    """The forecast for one rung."""

    level: float
    """In units of the study's ASHA resource."""
    epoch: int
    """The epoch after which the baseline is judged there, from 1."""
    span: tuple[int, int]
    """The same for the earliest and the latest configuration of the space."""
    reached: float
    """Expected number of trials that reach it."""


@dataclass(frozen=True)
class AshaPlan:
    """The forecast for all rungs, and the epochs that it adds up to."""

    rungs: tuple[RungPlan, ...]
    trials: int
    complete: float
    """Expected number of trials that train for all their epochs."""
    epochs: float
    """Expected epochs of all trials together."""
    share: float
    """`epochs` divided by the epochs that the same trials would need without pruning, 0 to 1."""


def plan(spec: Spec) -> AshaPlan:
    """Forecast the pruning of a study.

    The forecast simulates studies of trials with random values, one trial after another; a trial keeps its rank at
    every rung. A formula would be wrong, because the asynchronous rule lets more early arrivals continue than one in
    `reduction_factor`. Controls and the baseline train for all their epochs whatever their rank.
    """
    horizon, trials = spec.train.epochs, spec.budget.trials
    if not spec.asha.enabled:
        return AshaPlan((), trials, trials, trials * horizon, 1.0)
    # Without the levels of compute that the baseline never reaches.
    decided = training_rungs(spec, spec.base().train)
    controls = frozenset(
        number
        for number in range(min(trials, LARGEST_SIMULATION))
        if _is_reference(spec, number) or is_control(spec.seed, number, spec.asha.controls)
    )
    reached = _arrivals(tuple(decided.values()), float(spec.asha.reduction_factor), trials, controls)
    ends = [*decided, horizon]
    spent = sum((end - start) * count for start, end, count in zip([0, *ends], ends, reached, strict=False))
    spans = _spans(spec)
    rungs = tuple(
        RungPlan(level, epoch, spans[level], count)
        for (epoch, level), count in zip(decided.items(), reached, strict=False)
    )
    return AshaPlan(rungs, trials, reached[-1], spent, spent / (trials * horizon))


def _is_reference(spec: Spec, number: int) -> bool:
    """Whether a trial is never stopped: the baseline, or a configuration with settings outside the space."""
    enqueued = number < len(spec.enqueue)
    return enqueued and (number == 0 or bool(parts(spec.enqueue[number], spec.space).settings))


def _spans(spec: Spec) -> dict[float, tuple[int, int]]:
    """The earliest and the latest epoch after which each rung is decided."""
    by_level: dict[float, list[int]] = {}
    for train in (spec.base().train, *trainings(spec)):
        for epoch, level in training_rungs(spec, train).items():
            by_level.setdefault(level, []).append(epoch)
    return {level: (min(epochs), max(epochs)) for level, epochs in by_level.items()}


def trainings(spec: Spec) -> Iterator[TrainConfig]:
    """The training settings at the corners of the space of `SCHEDULING`. They include every number of stages, because
    the earliest and the latest decision need not lie at the least or the greatest number."""
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
    """Expected number of trials that reach each rung, and as the last entry of those that train for all epochs."""
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


# -------------------------------------------------------------------------------------------------- advice


def advice(spec: Spec) -> list[str]:
    """Warnings about the settings of ASHA and of RandAugment, one sentence each; usually none."""
    return [*_early_rungs(spec), *_few_controls(spec), *_weak_randaugment(spec)]


def _weak_randaugment(spec: Spec) -> Iterator[str]:
    """Google's operations change images as much just above magnitude 0 as at 5; see reports/docs/search_spaces.md."""
    base, parameters = {"train": spec.base().train}, subspace(spec.space, MAGNITUDES)
    # Not `configure`: without the other parameters a corner may break rules, for example of image sizes.
    trains = [assign(base, corner)["train"] for corner in corners(parameters).combinations]
    ranges = [parameters[name] for name in (START, END) if name in parameters]
    searched = any(not isinstance(one, CategoricalParameter) and one.low < CLIFF for one in ranges)
    published = [train for train in trains if train.augment.randaugment_form == "published"]
    if spec.shipped and any(_begins_weak(train, searched) for train in published):
        yield (
            f"RandAugment begins below magnitude {CLIFF}, where its published form already changes images as much as "
            f"at {CLIFF}; begin at {CLIFF}, or set train.augment.randaugment_form: increasing"
        )


def _begins_weak(train: TrainConfig, searched: bool) -> bool:
    """Whether RandAugment is on, and a stage or the search lies below the cliff; being off throughout is no ramp."""
    magnitudes = [stage.randaugment for stage in schedule.stages(train.progressive, train.epochs)]
    on = train.augment.randaugment_layers > 0 and max(magnitudes) > 0
    return on and (searched or min(magnitudes) < CLIFF)


def _early_rungs(spec: Spec) -> Iterator[str]:
    """A trial that is still warming up has values that say little about its final result."""
    if not spec.asha.enabled:
        return
    judged = [(rising_epochs(train), _first_decision(spec, train)) for train in trainings(spec)]
    early = [(rising, first) for rising, first in judged if first < rising]
    if early:
        rising, first = max(early, key=lambda pair: pair[0] - pair[1])
        whose = "trials are" if len(early) == len(judged) else "trials of some configurations are"
        yield (
            f"the first rung is inside the warm-up: {whose} judged after epoch {first}, but the learning rate rises "
            f"for {rising:g} epochs; raise asha.grace_period or lower train.warmup_epochs"
        )


def _first_decision(spec: Spec, train: TrainConfig) -> int:
    """The epoch after which a training is judged first; its last epoch if it reaches no rung."""
    return min(training_rungs(spec, train), default=train.epochs)


def _few_controls(spec: Spec) -> Iterator[str]:
    """Controls cost full trainings; with too few of them the audit says nothing."""
    share, trials = spec.asha.controls, spec.budget.trials
    count = sum(is_control(spec.seed, number, share) for number in range(trials))
    if spec.asha.enabled and share and count < LEAST_CONTROLS:
        controls = "1 control" if count == 1 else f"{count} controls"
        yield (
            f"asha.controls: {share:g} of {trials} trials is {controls}; `hpo audit` needs at least {LEAST_CONTROLS} "
            f"for its figures and {ENOUGH_CONTROLS} for advice; raise asha.controls, or set it to 0"
        )
