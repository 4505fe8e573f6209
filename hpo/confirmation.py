"""What a confirmation says: which configuration is best over fresh seeds, which cannot be told apart, which to take.

Pure functions over records; `hpo.launch_confirm` has the repeats trained. The best of many trials was chosen for a
value that luck had a part in; its repeats were not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from hpo import space
from hpo.paired import ALPHA, Interval, Noise, interval, pooled
from hpo.records import Scalar, StudyRecord, TrialRecord
from hpo.specification import SHIPPED_TRAINER, Spec
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
    """Repeats that failed."""
    waiting: int
    """Repeats that have not ended."""
    compute: float
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
    """Chosen minus published recipe over the same seeds; None where they are one or the recipe is not dependable."""
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
    difference in cost is not. Every test is against the highest mean, at 95 %, not corrected for their number; its
    noise is that of all configurations together (`hpo.paired.pooled`).
    """
    found = [_confirmed(spec, trials) for trials in _by_configuration(repeats).values()]
    found.sort(key=lambda one: (not one.dependable, -(one.interval.mean if one.interval else 0.0), one.trial))
    dependable = [one for one in found if one.dependable]
    noise = _noise(dependable)
    ranking = [replace(one, tied=one.dependable and _tied(dependable[0], one, noise)) for one in found]
    done = sum(trial.outcome is not None and trial.outcome.final for trial in repeats)
    tied = [one for one in ranking if one.tied] if done == len(repeats) else []
    best = min(tied, key=lambda one: (one.compute, ranking.index(one)), default=None)
    baseline = next((one for one in ranking if one.baseline), None)
    return Confirmation(tuple(ranking), best, baseline, _gain(best, baseline, noise), done, len(repeats))


def _by_configuration(repeats: Sequence[TrialRecord]) -> dict[int, list[TrialRecord]]:
    found: dict[int, list[TrialRecord]] = {}
    for trial in repeats:
        if trial.repeat:
            found.setdefault(trial.repeat.trial, []).append(trial)
    return found


def _confirmed(spec: Spec, trials: Sequence[TrialRecord]) -> Confirmed:
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
        compute=compute(spec, trials),
    )


def compute(spec: Spec, trials: Sequence[TrialRecord]) -> float:
    """The compute of one full training: epochs x px^2 of the shipped trainer's stages. Of another trainer, what its
    repeats reported as compute, else their epochs. The network's own size is not in it."""
    if spec.trainer != SHIPPED_TRAINER:
        reported = [one.last.compute for one in trials if one.last and one.last.compute is not None]
        return max(reported, default=float(spec.train.epochs))
    train = space.configure(spec.base(), trials[0].values).train
    stages = schedule.stages(train.progressive, train.epochs)
    return float(sum((stage.last_epoch - stage.first_epoch + 1) * stage.size**2 for stage in stages))


def _noise(dependable: Sequence[Confirmed]) -> Noise | None:
    """None where there is nothing to compare; whoever is dependable was trained with every seed."""
    if len(dependable) < 2:
        return None
    return pooled([[one.accuracies[seed] for seed in sorted(one.accuracies)] for one in dependable])


def _gap(first: Confirmed, second: Confirmed) -> float:
    """Difference of the means."""
    return fmean(first.accuracies.values()) - fmean(second.accuracies.values())


def _tied(best: Confirmed, other: Confirmed, noise: Noise | None) -> bool:
    return other is best or noise is None or noise.p(_gap(best, other)) >= ALPHA


def _gain(best: Confirmed | None, baseline: Confirmed | None, noise: Noise | None) -> Interval | None:
    if best is None or baseline is None or best is baseline or not baseline.dependable or noise is None:
        return None
    return noise.difference(_gap(best, baseline))
