"""What a confirmation says: which configurations are best over new seeds, and which of them to take.

The search chose its best trial for an accuracy that is partly luck. A confirmation trains that configuration and others
again, all with the same new seeds, and compares them over these. `hpo.driver.confirm` runs the trainings; here are pure
functions of their records.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.intervals import Interval
from hpo.results.paired_tests import ALPHA, differences, interval
from hpo.spec.configure import configure
from hpo.spec.objectives import VAL_ACCURACY, Objective
from hpo.spec.parameters import Choice
from hpo.spec.study import SHIPPED_TRAINER, Spec
from trainers import schedule


@dataclass(frozen=True)
class Confirmed:
    """One configuration that was trained again with several seeds."""

    trial: int
    """The number of its trial in the study."""
    baseline: bool
    """Whether it is the baseline."""
    values: Mapping[str, Choice]
    accuracies: Mapping[int, float]
    """Final validation accuracy by index of the seed, for the repeats that trained for all their epochs."""
    failed: int
    """Repeats that failed and were not started again."""
    waiting: int
    """Repeats that have not ended."""
    compute: float | None
    """Compute of a full training, which does not depend on the machine and its load: see `training_compute`."""
    shares: bool = True
    """Whether `accuracies` are shares, so that intervals end at 0 and 1; they are not if the study has an objective of
    its own."""
    tied: bool = False
    """Whether it has the highest mean, or the paired test cannot tell it from the configuration that has."""

    @property
    def interval(self) -> Interval | None:
        """Mean accuracy and its t-interval over the seeds, within 0 to 1; None for fewer than two seeds."""
        if len(self.accuracies) < 2:
            return None
        measured = interval(list(self.accuracies.values()))
        return measured.within(0.0, 1.0) if self.shares else measured

    @property
    def dependable(self) -> bool:
        """Whether it may be chosen: not if any seed failed or has not ended."""
        return not self.failed and not self.waiting and len(self.accuracies) > 1


@dataclass(frozen=True)
class Confirmation:
    """All repeated configurations."""

    ranking: tuple[Confirmed, ...]
    """The highest mean first; configurations that may not be chosen are last."""
    chosen: Confirmed | None
    """The cheapest of those tied with the best; None while repeats are missing, or if no configuration is
    dependable."""
    baseline: Confirmed | None
    gain: Interval | None
    """Accuracy of the chosen configuration minus that of the baseline, over the seeds that they share. None if the
    baseline is chosen or is not dependable."""
    done: int
    """Repeats that have ended."""
    planned: int
    """All repeats."""
    baseline_name: str = "baseline"
    """What to call the baseline in texts: see `Spec.baseline_name`."""
    objective: Objective = VAL_ACCURACY
    """What `accuracies` and `interval` of the ranking are scores of."""

    @property
    def complete(self) -> bool:
        """Whether all repeats have ended."""
        return self.done == self.planned


def confirmation(study: StudyRecord) -> Confirmation | None:
    """What the confirmation of a study says so far; None if it has none."""
    return evaluate(study.spec, study.repeats) if study.repeats else None


def evaluate(spec: Spec, repeats: Sequence[TrialRecord]) -> Confirmation:
    """Rank repeated configurations and choose one.

    The choice is the cheapest of the tied configurations: their difference in accuracy may be luck, their difference
    in cost is not. Each test compares a configuration with the highest mean, at 95 %, over the seeds that the two share
    (`hpo.results.paired_tests.differences`). A configuration that shares fewer than two seeds is not tied.
    """
    repeats = latest(repeats)
    configurations = _by_configuration(repeats)
    costs = training_compute(spec, configurations)
    entries = [
        _confirmed(trials, cost, spec.objective.is_accuracy) for trials, cost in zip(configurations, costs, strict=True)
    ]
    entries.sort(
        key=lambda entry: (not entry.dependable, -(entry.interval.mean if entry.interval else -math.inf), entry.trial)
    )
    tied = _tied([entry for entry in entries if entry.dependable])
    ranking = [replace(entry, tied=entry.trial in tied) for entry in entries]
    done = sum(_has_ended(trial) for trial in repeats)
    best = _cheapest([entry for entry in ranking if entry.tied]) if done == len(repeats) else None
    baseline = next((entry for entry in ranking if entry.baseline), None)
    gain = _gain(ranking, best, baseline)
    return Confirmation(tuple(ranking), best, baseline, gain, done, len(repeats), spec.baseline_name, spec.objective)


def latest(repeats: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The newest repeat of each (configuration, seed): a failed repeat may have been started again."""
    return list({(trial.repeat.trial, trial.repeat.index): trial for trial in repeats if trial.repeat}.values())


def _by_configuration(repeats: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """The repeats of each configuration."""
    by_trial: dict[int, list[TrialRecord]] = {}
    for trial in repeats:
        if trial.repeat:
            by_trial.setdefault(trial.repeat.trial, []).append(trial)
    return list(by_trial.values())


def _confirmed(trials: Sequence[TrialRecord], cost: float | None, shares: bool) -> Confirmed:
    first = trials[0].repeat
    assert first is not None
    complete = [trial for trial in trials if trial.complete]
    return Confirmed(
        trial=first.trial,
        baseline=first.baseline,
        values=trials[0].values,
        accuracies={trial.repeat.index: trial.value for trial in complete if trial.repeat and trial.value is not None},
        failed=sum(trial.status == "failed" for trial in trials),
        waiting=sum(not _has_ended(trial) for trial in trials),
        compute=cost,
        shares=shares,
    )


def _rank(entry: Confirmed) -> tuple[bool, float, int]:
    return not entry.dependable, -(entry.interval.mean if entry.interval else -math.inf), entry.trial


def _has_ended(trial: TrialRecord) -> bool:
    return trial.outcome is not None and trial.outcome.final


def _tied(dependable: Sequence[Confirmed]) -> set[int]:
    """The trials that the test cannot tell from the first, the first included."""
    if not dependable:
        return set()
    best, *others = dependable
    gaps = differences(best.accuracies, [entry.accuracies for entry in others])
    pairs = zip(others, gaps, strict=True)
    return {best.trial} | {entry.trial for entry, gap in pairs if gap and (gap.p >= ALPHA or gap.mean <= 0)}


def _cheapest(tied: Sequence[Confirmed]) -> Confirmed | None:
    """The first of the least compute."""
    return min(tied, key=lambda entry: entry.compute or 0.0, default=None)


def _gain(ranking: Sequence[Confirmed], best: Confirmed | None, baseline: Confirmed | None) -> Interval | None:
    if best is None or baseline is None or best is baseline or not baseline.dependable:
        return None
    others = [entry for entry in ranking if entry.dependable and entry is not best]
    gap = differences(best.accuracies, [entry.accuracies for entry in others])[others.index(baseline)]
    if gap is None:
        return None
    return gap.interval.within(-1.0, 1.0) if best.shares else gap.interval


# --------------------------------------------------------------------------------------------------- cost


def training_compute(spec: Spec, configurations: Sequence[Sequence[TrialRecord]]) -> list[float | None]:
    """The compute of one full training of each configuration, in one unit for all; None where it is not known yet.

    The shipped trainer computes epochs x px^2 of its stages. Another trainer reports its compute; if it does not, the
    epochs count. If the networks may differ in size, both are multiplied by the multiply-accumulates per px^2 of one
    image. That needs a report of them from every configuration that has trained for all its epochs.

    Args:
        configurations: the repeats of each.
    """
    shipped = spec.trainer == SHIPPED_TRAINER
    costs = [_pixels(spec, trials[0]) if shipped else (_reported(spec, trials), 1) for trials in configurations]
    ends = [next((trial.last for trial in trials if trial.complete), None) for trials in configurations]
    known = [end.macs is not None for end in ends if end]
    networks_differ = not shipped or any(name.startswith("model.") for name in spec.space)
    if not (networks_differ and known and all(known)):
        return [cost for cost, _ in costs]
    return [
        cost * end.macs / size**2 if end and end.macs is not None else None
        for (cost, size), end in zip(costs, ends, strict=True)
    ]


def _pixels(spec: Spec, trial: TrialRecord) -> tuple[float, int]:
    """Epochs x px^2, and the image size of the evaluation, for which multiply-accumulates are reported."""
    train = configure(spec.base(), trial.values).train
    stages = schedule.stages(train.progressive, train.epochs)
    cost = sum((stage.last_epoch - stage.first_epoch + 1) * stage.size**2 for stage in stages)
    return float(cost), train.eval_size or stages[-1].size


def _reported(spec: Spec, trials: Sequence[TrialRecord]) -> float:
    reported = [trial.last.compute for trial in trials if trial.last and trial.last.compute is not None]
    return max(reported, default=float(spec.train.epochs))


# -------------------------------------------------------------------------------------------------- noise


def seed_noise(study: StudyRecord) -> float | None:
    """The standard deviation of the accuracy of a full training between seeds; None if it cannot be estimated.

    A confirmation measures it: within each configuration, over its seeds. Without one it is estimated from the
    difference between neighbouring epochs over the last quarter of full trainings, where trainings hardly improve;
    such a difference has the noise of two epochs. Trainings that ASHA could have stopped are selected for their
    values, so only controls count if there are two or more.
    """
    repeats: dict[int, list[float]] = {}
    for trial in study.repeats:
        if trial.repeat is not None and trial.complete and trial.value is not None:
            repeats.setdefault(trial.repeat.trial, []).append(trial.value)
    pooled = pooled_deviation(list(repeats.values()))
    if pooled is not None:
        return pooled
    complete = [trial for trial in study.trials if trial.complete]
    controls = [trial for trial in complete if trial.control]
    gaps = [gap for trial in (controls if len(controls) > 1 else complete) for gap in _last_gaps(trial)]
    return statistics.stdev(gaps) / math.sqrt(2) if len(gaps) > 1 else None


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation of values around the mean of their group; None if no group has two values."""
    freedom = sum(len(group) - 1 for group in groups if group)
    if freedom < 1:
        return None
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups if group for value in group)
    return math.sqrt(squares / freedom)


def _last_gaps(trial: TrialRecord) -> list[float]:
    """Changes from epoch to epoch over the last quarter, at least over three epochs."""
    values = [epoch.value for epoch in trial.epochs]
    return [b - a for a, b in itertools.pairwise(values[-max(3, len(values) // 4) :])]
