"""Where the rungs of a training lie, and which trials of a study are stopped there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from hpo.ledger.records import RungDecision, TrialRecord
from hpo.search.asha import AshaPruner, rung_levels
from hpo.spec.configure import configure
from hpo.spec.study import SHIPPED_TRAINER, Asha, Spec
from trainers import schedule
from trainers.api import EpochMetrics, TrainConfig

Align = Literal["none", "stages"]
Resource = Literal["epochs", "compute"]

DECIDE_SIZES = frozenset(f"train.progressive.{name}" for name in ("form", "stages", "size.start", "size.end", "sizes"))
"""Settings that decide at which image size each epoch trains."""

_ROUNDING = 1e-9


def study_levels(asha: Asha, epochs: int) -> tuple[float, ...]:
    """The rungs of a study, in units of its resource; none where ASHA is off."""
    return rung_levels(asha.grace_period, asha.reduction_factor, epochs) if asha.enabled else ()


def rung_resource(spec: Spec) -> Resource:
    """What the rungs of a study count: `asha.resource`, and what its `auto` comes to.

    Where all images have one size compute is nothing but epochs, so `auto` calls it that.
    """
    if spec.asha.resource != "auto":
        return spec.asha.resource
    if spec.trainer != SHIPPED_TRAINER:
        return "epochs"
    plan = schedule.stages(spec.base().train.progressive, spec.train.epochs)
    sizes_change = len({stage.size for stage in plan}) > 1 or not DECIDE_SIZES.isdisjoint(spec.space)
    return "compute" if sizes_change else "epochs"


def training_rungs(spec: Spec, train: TrainConfig) -> dict[int, float]:
    """The rung decided after each epoch of a training that decides one, as its schedule says: see `decision_epochs`."""
    plan = schedule.stages(train.progressive, train.epochs)
    counts_epochs = rung_resource(spec) == "epochs"
    used = [
        float(epoch) if counts_epochs else schedule.compute(plan, epoch, train.compute_size)
        for epoch in range(1, train.epochs + 1)
    ]
    ends = [stage.last_epoch for stage in plan]
    return decision_epochs(study_levels(spec.asha, train.epochs), used, ends, spec.asha.align)


def decision_epochs(
    levels: Sequence[float], resource: Sequence[float], stage_ends: Sequence[int], align: Align
) -> dict[int, float]:
    """The rung decided after each epoch that decides one, ascending; rungs that the training never reaches are left
    out, and of several reached by one epoch the highest counts.

    `none`: a rung is decided after the first epoch that has used as much of the resource.
    `stages`: it moves from there to the nearest end of a progressive stage, unless that end is nearer to another
    rung or to the end of the training, where all trials are compared anyway. Nearness is in ratios, as rungs are
    spaced. So a trial is judged when it has lived with its image size for a while instead of right after a change,
    and no two rungs ever meet.

    Args:
        levels: the rungs, ascending, in units of the resource.
        resource: what the training has used after each epoch, ascending; as many as it has epochs.
        stage_ends: the last epoch of every stage.
    """
    natural = _natural(levels, resource)
    if align == "none":
        return natural
    last = len(resource)
    # From each end to the moment it is nearest to; a tie goes to the later one, so that it moves no rung.
    marks = [*natural, last]
    nearest = {end: min(reversed(marks), key=lambda mark: _ratio(mark, end)) for end in stage_ends if end < last}
    return {
        min((end for end in nearest if nearest[end] == epoch), key=lambda end: _ratio(epoch, end), default=epoch): level
        for epoch, level in natural.items()
    }


def reached(level: float, used: float) -> bool:
    """Whether so much of the resource is enough for a rung, rounding aside."""
    return used >= level * (1 - _ROUNDING)


def _natural(levels: Sequence[float], resource: Sequence[float]) -> dict[int, float]:
    decided: dict[int, float] = {}
    for level in levels:
        epoch = next((at for at, used in enumerate(resource, start=1) if reached(level, used)), None)
        if epoch is not None and epoch < len(resource):
            decided[epoch] = level
    return decided


def _ratio(one: int, other: int) -> float:
    """How far apart two epochs are, as rungs see it; rounded, so that equal ratios are equal."""
    return round(abs(math.log(one / other)), 9)


class RungJudge:
    """The rungs of a study, as its recorded verdicts have left them."""

    def __init__(self, spec: Spec, trials: Iterable[TrialRecord]) -> None:
        self._spec = spec
        self._base = spec.base()
        self._pruner: AshaPruner | None = None
        if spec.asha.enabled:
            self._pruner = AshaPruner(study_levels(spec.asha, spec.train.epochs), spec.asha.reduction_factor)
            for trial in trials:
                for decision in trial.rungs:
                    self._pruner.restore(trial.number, decision)
        self.counts_compute = self._pruner is not None and rung_resource(spec) == "compute"
        """Whether the trainer must report compute."""

    def decide(self, trial: TrialRecord, metrics: EpochMetrics) -> RungDecision | None:
        """The verdict after a new epoch of `trial`; None where it decides no rung, and always where ASHA is off."""
        if self._pruner is None or metrics.epoch >= self._spec.train.epochs:
            return None
        if any(not one.keep for one in trial.rungs):
            return None  # a control that would have been stopped is no measure for those that got further
        resource = self._resource(trial, metrics)
        return None if resource is None else self._pruner.decide(trial.number, resource, metrics.val_accuracy)

    def _resource(self, trial: TrialRecord, metrics: EpochMetrics) -> float | None:
        """How far a trial has come, in units of the rungs; None where its stage tells it not to be judged now."""
        if self._spec.asha.align == "stages":
            train = configure(self._base, trial.values).train
            return training_rungs(self._spec, train).get(metrics.epoch)
        return metrics.compute if self.counts_compute else float(metrics.epoch)
