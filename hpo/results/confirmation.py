"""What a confirmation says: which configurations are best over new seeds, and which of them to take.

The search chose its best trial for an accuracy that is partly luck. A confirmation trains that configuration and others
again, all with the same new seeds, and compares them over these. `hpo.driver.confirm` runs the trainings; here are pure
functions of their records. `hpo.results.inference` holds the statistics and their sources.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.inference.contrasts import FINEST
from hpo.results.inference.max_t import ALPHA, FEWEST
from hpo.results.inference.means import mean_intervals
from hpo.results.inference.ranking import RACE_ALPHA, Versus, against_the_best, chances, gains, race
from hpo.results.intervals import Interval
from hpo.results.sums.gaps import Gaps
from hpo.results.training_cost import training_compute
from hpo.spec.objectives import VAL_ACCURACY, Objective
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec


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
    """Repeats that have not ended, or not begun."""
    compute: float | None
    """Compute of a full training, which does not depend on the machine and its load: see `training_compute`."""
    wanted: int = 0
    """Number of seeds that it was planned for."""
    interval: Interval | None = None
    """Mean accuracy and its interval over new seeds, within 0 to 1; None for fewer than three seeds. The intervals of
    all configurations hold together, so that of the chosen one does too."""
    versus: Versus | None = None
    """Its difference to the best of the other configurations; None if it is not compared."""
    dropped: int | None = None
    """After how many seeds the race dropped it; None if it did not."""
    chance: float = 0.0
    """The probability that it is the best of all that are compared."""

    @property
    def mean(self) -> float | None:
        """Mean accuracy; None for fewer than two seeds."""
        return statistics.fmean(self.accuracies.values()) if len(self.accuracies) > 1 else None

    @property
    def tied(self) -> bool:
        """Whether it may be the best: it has the highest mean, or chance can explain the distance."""
        return self.versus is not None and self.versus.may_be_best and self.dropped is None

    @property
    def dependable(self) -> bool:
        """Whether it can be compared: not if any seed failed or has not ended."""
        return not self.failed and not self.waiting and len(self.accuracies) > 1


@dataclass(frozen=True)
class Confirmation:
    """All repeated configurations."""

    ranking: tuple[Confirmed, ...]
    """The highest mean first; configurations that may not be chosen are last."""
    chosen: Confirmed | None
    """The one with the highest mean, or a cheaper one that is not worse by more than `margin`; None while repeats are
    missing, or if no configuration is dependable."""
    baseline: Confirmed | None
    gain: Interval | None
    """Accuracy of the chosen configuration minus that of the baseline, over the seeds that they share. Dunnett's
    interval, which holds whichever configuration is chosen. None if the baseline is chosen or is not dependable, and
    below three seeds."""
    gain_mean: float | None
    """The same without an interval, from two seeds on."""
    margin: float | None
    """How much worse a cheaper configuration may be to be chosen: the noise between seeds; None below three seeds,
    where none replaces a better one."""
    done: int
    """Repeats that have ended."""
    planned: int
    """All repeats that are needed, as far as that is known: the race needs fewer as it goes on."""
    baseline_name: str = "baseline"
    """What to call the baseline in texts: see `Spec.baseline_name`."""
    objective: Objective = VAL_ACCURACY
    """What `accuracies` and `interval` of the ranking are scores of."""

    @property
    def complete(self) -> bool:
        """Whether all repeats have ended."""
        return self.done == self.planned

    @property
    def compared(self) -> int:
        """Number of configurations that are compared."""
        return sum(entry.versus is not None for entry in self.ranking)


def confirmation(study: StudyRecord) -> Confirmation | None:
    """What the confirmation of a study says so far; None if it has none."""
    return evaluate(study.spec, study.repeats) if study.repeats else None


def evaluate(spec: Spec, repeats: Sequence[TrialRecord]) -> Confirmation:
    """Rank repeated configurations and choose one.

    The highest mean is chosen. From three seeds on, a cheaper configuration takes its place if it may be the best too,
    and if it is certainly not worse than the best by more than the noise between seeds: its difference in accuracy may
    be luck, its difference in cost is not. All these statements together are wrong with a chance of at most 5 %, of
    which the race has 1 %.
    """
    repeats = latest(repeats)
    configurations = _by_configuration(repeats)
    costs = training_compute(spec, configurations)
    begun = [_confirmed(trials, cost) for trials, cost in zip(configurations, costs, strict=True)]
    finest = _finest(begun, spec.objective)
    dropped = dropped_by_race(begun, spec.objective)
    entries = [_needed(entry, dropped) for entry in begun]
    done = sum(_has_ended(trial) for trial in repeats)
    planned = len(repeats) + sum(entry.waiting for entry in entries) - sum(entry.waiting for entry in begun)
    entries = sorted(_compared(entries, finest, shares=spec.objective.is_accuracy), key=_rank)
    baseline = next((entry for entry in entries if entry.baseline), None)
    result = Confirmation(
        tuple(entries), None, baseline, None, None, _margin(entries), done, planned, spec.baseline_name, spec.objective
    )
    return _with_choice(result, finest) if result.complete else result


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


def _confirmed(trials: Sequence[TrialRecord], cost: float | None) -> Confirmed:
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
        wanted=max(len(trials), *(trial.repeat.seeds for trial in trials if trial.repeat)),
    )


def _has_ended(trial: TrialRecord) -> bool:
    return trial.outcome is not None and trial.outcome.final


def _finest(entries: Sequence[Confirmed], objective: Objective) -> float:
    """The least standard deviation of a difference of two scores; of another objective than accuracy, its rounding."""
    greatest = max((abs(score) for entry in entries for score in entry.accuracies.values()), default=1.0)
    return FINEST if objective.is_accuracy else max(1e-9 * greatest, 1e-150)


def dropped_by_race(entries: Sequence[Confirmed], objective: Objective, wanted: int = 0) -> dict[int, int]:
    """The configurations that need no further seed, each with the number of seeds after which that was decided.

    The baseline is never dropped, because the gain over it is what a confirmation is asked for.

    Args:
        wanted: seeds that are planned for all of them now; 0 for those that were.
    """
    sound = [entry for entry in entries if not entry.failed]
    scores = {entry.trial: entry.accuracies for entry in sound}
    planned = {entry.trial: max(entry.wanted, wanted) for entry in sound}
    return race(scores, planned, [entry.trial for entry in sound if entry.baseline], _finest(sound, objective))


def _needed(entry: Confirmed, dropped: Mapping[int, int]) -> Confirmed:
    """With the repeats that are still to be planned, and what the race says of it if that saved any."""
    had = len(entry.accuracies) + entry.failed + entry.waiting
    if entry.failed or had >= entry.wanted:
        return entry
    if entry.trial in dropped:
        return replace(entry, dropped=dropped[entry.trial])
    return replace(entry, waiting=entry.waiting + entry.wanted - had)


def _rank(entry: Confirmed) -> tuple[bool, bool, float, int]:
    return not entry.dependable, entry.dropped is not None, -(entry.mean or -math.inf), entry.trial


def _scores(entries: Sequence[Confirmed]) -> dict[int, Mapping[int, float]]:
    """Of those that can be compared."""
    return {entry.trial: entry.accuracies for entry in entries if entry.dependable}


def _compared(entries: Sequence[Confirmed], finest: float, *, shares: bool) -> list[Confirmed]:
    """The entries with what their scores say of them; those that are not dependable as they are."""
    scores = _scores(entries)
    means = mean_intervals(scores, finest=finest)
    raced = max(entry.wanted for entry in entries) > 2
    versus = against_the_best(scores, ALPHA - RACE_ALPHA if raced else ALPHA, finest)
    if shares:
        means = {trial: interval.within(0.0, 1.0) for trial, interval in means.items()}
        versus = {trial: one.within(1.0) for trial, one in versus.items()}
    chance = chances(scores, finest)
    return [
        replace(
            entry,
            interval=means.get(entry.trial),
            versus=versus.get(entry.trial),
            chance=chance.get(entry.trial, 0.0),
        )
        for entry in entries
    ]


def _margin(entries: Sequence[Confirmed]) -> float | None:
    """The noise between seeds of the configurations that may be the best."""
    groups = [list(entry.accuracies.values()) for entry in entries if entry.tied]
    return pooled_deviation(groups) if groups and min(map(len, groups)) >= FEWEST else None


def _with_choice(result: Confirmation, finest: float) -> Confirmation:
    """The confirmation with the configuration that is chosen, and its gain."""
    able = [entry for entry in result.ranking if entry.dependable and entry.dropped is None]
    most = max((len(entry.accuracies) for entry in able), default=0)
    best = next((entry for entry in able if len(entry.accuracies) == most), None)
    if best is None:
        return result
    most_worse = result.margin if result.margin is not None else -math.inf
    as_good = [entry for entry in able if entry.tied and entry.versus and entry.versus.least >= -most_worse]
    cheaper = [entry for entry in as_good if entry.compute and best.compute and entry.compute < best.compute]
    chosen = min(cheaper, key=lambda entry: entry.compute or 0.0, default=best)
    baseline, scores = result.baseline, _scores(result.ranking)
    if baseline is None or chosen is baseline or baseline.trial not in scores:
        return replace(result, chosen=chosen)
    found = gains(scores, baseline.trial, finest=finest).get(chosen.trial)
    if not isinstance(found, Interval):
        return replace(result, chosen=chosen, gain_mean=found)
    gain = found.within(-1.0, 1.0) if result.objective.is_accuracy else found
    return replace(result, chosen=chosen, gain=gain, gain_mean=gain.mean)


# -------------------------------------------------------------------------------------------------- noise


def seed_noise(study: StudyRecord, gaps: Gaps | None = None) -> float | None:
    """The standard deviation of the accuracy of a full training between seeds; None if it cannot be estimated.

    A confirmation measures it: within each configuration, over its seeds. Without one it is estimated from the
    difference between neighbouring epochs at the end of full trainings, where trainings hardly improve; such a
    difference has the noise of two epochs.

    Args:
        gaps: these differences, where they are kept; None: of `study.trials`.
    """
    repeats: dict[int, list[float]] = {}
    for trial in study.repeats:
        if trial.repeat is not None and trial.complete and trial.value is not None:
            repeats.setdefault(trial.repeat.trial, []).append(trial.value)
    pooled = pooled_deviation(list(repeats.values()))
    if pooled is not None:
        return pooled
    deviation = (gaps or Gaps(study.trials)).deviation
    return None if deviation is None else deviation / math.sqrt(2)


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation of values around the mean of their group; None if no group has two values."""
    freedom = sum(len(group) - 1 for group in groups if group)
    if freedom < 1:
        return None
    squares = sum((value - statistics.fmean(group)) ** 2 for group in groups if group for value in group)
    return math.sqrt(squares / freedom)
