"""Where the rungs of a training lie, and which trials of a study are stopped there.

A rung is a level of a resource: epochs, or compute. `training_rungs` says after which epochs a training is judged,
`RungJudge` decides. `hpo.search.asha` has the rule itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
"""Settings that decide the image size of each epoch."""

_ROUNDING = 1e-9


def study_levels(asha: Asha, epochs: int) -> tuple[float, ...]:
    """The rungs of a study, in units of its resource; none if ASHA is off."""
    return rung_levels(asha.grace_period, asha.reduction_factor, epochs) if asha.enabled else ()


def rung_resource(spec: Spec) -> Resource:
    """What the rungs of a study count: `asha.resource`, or what its `auto` means here.

    If all images have one size, compute is proportional to epochs, and `auto` means epochs.
    """
    if spec.asha.resource != "auto":
        return spec.asha.resource
    if spec.trainer != SHIPPED_TRAINER:
        return "epochs"
    plan = schedule.stages(spec.base().train.progressive, spec.train.epochs)
    sizes_change = len({stage.size for stage in plan}) > 1 or not DECIDE_SIZES.isdisjoint(spec.space)
    return "compute" if sizes_change else "epochs"


def reached(level: float, used: float) -> bool:
    """Whether so much of the resource is enough for a rung, up to rounding."""
    return used >= level * (1 - _ROUNDING)


def training_rungs(spec: Spec, train: TrainConfig) -> dict[int, float]:
    """The epochs of a training after which a rung is decided, and the rung: see `decision_epochs`."""
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
    """The epochs after which a rung is decided, ascending, and the rung. Rungs that the training never reaches are
    left out; if one epoch reaches several rungs, the highest counts.

    With `none` a rung is decided after the first epoch that has used that much of the resource.

    With `stages` the decision moves from there to the nearest end of a progressive stage. So a trial is judged after it
    has trained at an image size for a while, not right after a change. An end that is nearer to another rung, or to the
    end of the training, attracts no decision: so no two rungs meet. Distances are ratios of epochs, because rungs are
    spaced by a ratio.

    Args:
        levels: the rungs, ascending, in units of the resource.
        resource: what the training has used after each epoch, ascending.
        stage_ends: the last epoch of every stage, ascending.
    """
    natural = _natural_epochs(levels, resource)
    if align == "none":
        return natural
    last = len(resource)
    candidates: dict[int, list[int]] = {epoch: [] for epoch in (*natural, last)}
    latest_first = list(reversed(candidates))
    for end in stage_ends:
        if end < last:
            # In case of a tie the end belongs to the later epoch, and moves neither rung.
            candidates[_nearest(end, latest_first)].append(end)
    return {_nearest(epoch, candidates[epoch] or [epoch]): level for epoch, level in natural.items()}


def _natural_epochs(levels: Sequence[float], resource: Sequence[float]) -> dict[int, float]:
    """The first epochs that reach a rung; the last epoch of the training decides nothing."""
    decided: dict[int, float] = {}
    for level in levels:
        epoch = next((epoch for epoch, used in enumerate(resource, start=1) if reached(level, used)), None)
        if epoch is not None and epoch < len(resource):
            decided[epoch] = level
    return decided


def _nearest(epoch: int, others: Sequence[int]) -> int:
    """The nearest of other epochs as a ratio; the first of several. Rounded, so that equal ratios are equal."""
    return min(others, key=lambda other: round(abs(math.log(epoch / other)), 9))


def depths(spec: Spec) -> Callable[[TrialRecord], float]:
    """How long a trial of the study has trained: epochs, or the highest rung if the rungs count compute."""
    levels = study_levels(spec.asha, spec.train.epochs)
    in_compute = bool(levels) and rung_resource(spec) == "compute"

    def depth(trial: TrialRecord) -> float:
        if not in_compute or trial.last is None or trial.last.compute is None:
            return len(trial.epochs)
        return max((level for level in levels if reached(level, trial.last.compute)), default=0.0)

    return depth


def deepest_rungs(spec: Spec) -> Callable[[TrialRecord], float | None]:
    """Of the trials of one study: the highest rung that a trial has reached, None before the first.

    Of controls, and of trials that landing took up, also a rung without a decision: after a decision to stop one, later
    rungs ignore it.
    """
    base, in_compute = spec.base(), rung_resource(spec) == "compute"
    levels = study_levels(spec.asha, spec.train.epochs)

    def passed(trial: TrialRecord, last: EpochMetrics) -> Iterator[float]:
        if spec.asha.align == "stages":
            decided = training_rungs(spec, configure(base, trial.assigned).train)
            return (level for epoch, level in decided.items() if epoch <= last.epoch)
        used = (last.compute if in_compute else last.epoch) or 0.0
        return (level for level in levels if reached(level, used))

    def deepest(trial: TrialRecord) -> float | None:
        spared = trial.control or trial.taken_up
        without = passed(trial, trial.last) if spared and trial.last is not None else ()
        return max((*trial.judged, *without), default=None)

    return deepest


class RungJudge:
    """Decides which trials of a study continue at its rungs, after the decisions that were recorded before."""

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
        """The decision after a new epoch of `trial`; None if no rung is decided then, and always if ASHA is off."""
        if self._pruner is None or metrics.epoch >= self._spec.train.epochs:
            return None
        if any(not decision.keep for decision in trial.rungs):
            return None  # this control would have been stopped: the trials ahead must not be compared with it
        resource = self._resource(trial, metrics)
        score = self._spec.objective.score_of(metrics)
        return None if resource is None or score is None else self._pruner.decide(trial.number, resource, score)

    def _resource(self, trial: TrialRecord, metrics: EpochMetrics) -> float | None:
        """What the trial has used, in units of the rungs; None if its stages move the decision to another epoch."""
        if self._spec.asha.align == "stages":
            train = configure(self._base, trial.assigned).train
            return training_rungs(self._spec, train).get(metrics.epoch)
        return metrics.compute if self.counts_compute else float(metrics.epoch)
