"""What a confirmation says: which configuration is best over fresh seeds, which cannot be told apart, which to take.

Pure functions over records; `hpo.driver.confirm` has the repeats trained. The best of many trials was chosen for a
value that luck had a part in; its repeats were not.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hpo.ledger.records import Scalar, StudyRecord, TrialRecord
from hpo.results.paired_tests import ALPHA, Interval, differences, interval
from hpo.spec.configure import configure
from hpo.spec.study import SHIPPED_TRAINER, Spec
from trainers import schedule


@dataclass(frozen=True)
class Confirmed:
    """One configuration, trained again with several seeds."""

    trial: int
    """Its number in the study."""
    baseline: bool
    """Whether it is the published recipe."""
    values: Mapping[str, Scalar]
    accuracies: Mapping[int, float]
    """Final validation accuracy by index of the seed, of the repeats that trained for all their epochs."""
    failed: int
    """Repeats that failed and were not tried again since."""
    waiting: int
    """Repeats that have not ended."""
    compute: float | None
    """What a full training costs, whatever the machine and its load: see `compute`."""
    tied: bool = False
    """Whether the paired test cannot tell it from the one with the highest mean, or it is that one."""

    @property
    def interval(self) -> Interval | None:
        """Mean accuracy and its t-interval over the seeds; None for fewer than two."""
        return interval(list(self.accuracies.values())) if len(self.accuracies) > 1 else None

    @property
    def dependable(self) -> bool:
        """Whether it may be chosen: a configuration that failed with any seed may not."""
        return not self.failed and not self.waiting and len(self.accuracies) > 1


@dataclass(frozen=True)
class Confirmation:
    """All repeated configurations, the highest mean first; those that may not be chosen stand last."""

    ranking: tuple[Confirmed, ...]
    chosen: Confirmed | None
    """The cheapest of those tied with the best; None while repeats are missing, or where none is dependable."""
    baseline: Confirmed | None
    gain: Interval | None
    """Chosen minus published recipe over the seeds that they share; None where they are one or the recipe is not
    dependable."""
    done: int
    """Repeats that have ended."""
    planned: int

    @property
    def complete(self) -> bool:
        """Whether all repeats have ended."""
        return self.done == self.planned


def confirmation(study: StudyRecord) -> Confirmation | None:
    """What the confirmation of a study says so far, None where it has none."""
    return evaluate(study.spec, study.repeats) if study.repeats else None


def chosen(study: StudyRecord) -> Confirmed | None:
    """What a complete confirmation of the study chose, None where there is none."""
    found = confirmation(study)
    return found.chosen if found else None


def evaluate(spec: Spec, repeats: Sequence[TrialRecord]) -> Confirmation:
    """Rank repeated configurations and choose one.

    The cheapest of the tied ones is taken because the difference in accuracy may be nothing but luck and the
    difference in cost is not. Every test is against the highest mean, at 95 %, over the seeds that the two share
    (`hpo.results.paired_tests.differences`); one that shares fewer than two with it is not taken for as good.
    """
    repeats = latest(repeats)
    found = [_confirmed(trials, cost) for trials, cost in _by_configuration(spec, repeats)]
    found.sort(key=lambda one: (not one.dependable, -(one.interval.mean if one.interval else 0.0), one.trial))
    equals = _equals([one for one in found if one.dependable])
    ranking = [replace(one, tied=one.trial in equals) for one in found]
    done = sum(trial.outcome is not None and trial.outcome.final for trial in repeats)
    tied = [one for one in ranking if one.tied] if done == len(repeats) else []
    best = min(tied, key=lambda one: (one.compute or 0.0, ranking.index(one)), default=None)
    baseline = next((one for one in ranking if one.baseline), None)
    return Confirmation(tuple(ranking), best, baseline, _gain(ranking, best, baseline), done, len(repeats))


def latest(repeats: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Each (configuration, seed) as it was last tried; what failed may have been tried again."""
    return list({(one.repeat.trial, one.repeat.index): one for one in repeats if one.repeat}.values())


def _by_configuration(
    spec: Spec, repeats: Sequence[TrialRecord]
) -> Iterator[tuple[Sequence[TrialRecord], float | None]]:
    """Each configuration's repeats and what a full training of it costs."""
    found: dict[int, list[TrialRecord]] = {}
    for trial in repeats:
        if trial.repeat:
            found.setdefault(trial.repeat.trial, []).append(trial)
    costs = compute(spec, list(found.values()))
    yield from zip(found.values(), costs, strict=True)


def _confirmed(trials: Sequence[TrialRecord], cost: float | None) -> Confirmed:
    first = trials[0].repeat
    assert first is not None
    ended = [one for one in trials if one.complete]
    return Confirmed(
        trial=first.trial,
        baseline=first.baseline,
        values=trials[0].values,
        accuracies={one.repeat.index: one.value for one in ended if one.repeat and one.value is not None},
        failed=sum(one.status == "failed" for one in trials),
        waiting=sum(one.outcome is None or not one.outcome.final for one in trials),
        compute=cost,
    )


def compute(spec: Spec, configurations: Sequence[Sequence[TrialRecord]]) -> list[float | None]:
    """The compute of one full training of each configuration, in one unit for all; None where its repeats have not
    told it yet.

    Epochs x px^2 of the shipped trainer's stages; of another trainer, what its repeats reported as compute, else
    their epochs. Where networks differ in size, times the multiply-accumulates per px^2 of one image that they
    reported, provided that every configuration that trained for all its epochs did.
    """
    shipped = spec.trainer == SHIPPED_TRAINER
    told = [next((one.last for one in trials if one.complete), None) for trials in configurations]
    searched = not shipped or any(name.startswith("model.") for name in spec.space)
    weighed = searched and any(told) and all(last.macs is not None for last in told if last)
    found = list[float | None]()
    for trials, last in zip(configurations, told, strict=True):
        cost, size = _pixels(spec, trials[0]) if shipped else (_reported(spec, trials), 1)
        if not weighed:
            found.append(cost)
        else:
            found.append(cost * last.macs / size**2 if last and last.macs is not None else None)
    return found


def _pixels(spec: Spec, trial: TrialRecord) -> tuple[float, int]:
    """Epochs x px^2, and the image size of its evaluation, which the multiply-accumulates are of."""
    train = configure(spec.base(), trial.values).train
    stages = schedule.stages(train.progressive, train.epochs)
    cost = sum((stage.last_epoch - stage.first_epoch + 1) * stage.size**2 for stage in stages)
    return float(cost), train.eval_size or stages[-1].size


def _reported(spec: Spec, trials: Sequence[TrialRecord]) -> float:
    reported = [one.last.compute for one in trials if one.last and one.last.compute is not None]
    return max(reported, default=float(spec.train.epochs))


def _equals(dependable: Sequence[Confirmed]) -> set[int]:
    """Which cannot be told from the first, itself included."""
    if not dependable:
        return set()
    best, *others = dependable
    found = differences(best.accuracies, [one.accuracies for one in others])
    told = zip(others, found, strict=True)
    return {best.trial} | {one.trial for one, gap in told if gap and (gap.p >= ALPHA or gap.mean <= 0)}


def _gain(ranking: Sequence[Confirmed], best: Confirmed | None, baseline: Confirmed | None) -> Interval | None:
    if best is None or baseline is None or best is baseline or not baseline.dependable:
        return None
    others = [one for one in ranking if one.dependable and one is not best]
    gap = differences(best.accuracies, [one.accuracies for one in others])[others.index(baseline)]
    return gap.interval if gap else None


def seed_noise(study: StudyRecord) -> float | None:
    """The standard deviation of a full training's accuracy that is nothing but luck; None where nothing tells.

    Measured by the confirmation, within its configurations and over its seeds. Without one, from epoch to epoch over
    the last quarter of each full training that nobody could stop (the controls, else all complete trials): trainings
    hardly improve there, and what two successive epochs differ by is the noise of both.
    """
    repeats: dict[int, list[float]] = {}
    for trial in study.repeats:
        if trial.repeat is not None and trial.complete and trial.value is not None:
            repeats.setdefault(trial.repeat.trial, []).append(trial.value)
    pooled = pooled_deviation(list(repeats.values()))
    if pooled is not None:
        return pooled
    complete = [trial for trial in study.trials if trial.complete]
    controls = [trial for trial in complete if trial.control] if sum(one.control for one in complete) > 1 else complete
    gaps = [gap for trial in controls for gap in _last_gaps(trial)]
    return statistics.stdev(gaps) / math.sqrt(2) if len(gaps) > 1 else None


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation within groups of values around their own means; None without two of one group."""
    freedom = sum(len(group) - 1 for group in groups if group)
    if freedom < 1:
        return None
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups if group for value in group)
    return math.sqrt(squares / freedom)


def _last_gaps(trial: TrialRecord) -> list[float]:
    values = [epoch.metrics.val_accuracy for epoch in trial.epochs]
    return [b - a for a, b in itertools.pairwise(values[-max(3, len(values) // 4) :])]
