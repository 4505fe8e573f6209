"""Which trainings a confirmation needs: pure functions of its records. `hpo.driver.confirm` runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpo.errors import UsageError
from hpo.ledger.records import Repeat, StudyRecord, TrialRecord
from hpo.results.best import leaders
from hpo.results.confirmation import dropped_by_race, evaluate, latest
from hpo.results.pruning.ends import predicted_ends
from hpo.spec.parameters import Choice
from hpo.spec.seeds import derive_seed
from hpo.text import first_line

FEWEST_SEEDS = 2
"""One value says nothing about the variation between seeds."""

Planned = tuple[Repeat, Mapping[str, Choice]]
"""A training of a confirmation and its configuration."""


def refuse_counts(top: int, seeds: int) -> None:
    """Raises UsageError if so many configurations and seeds make no confirmation."""
    if seeds < FEWEST_SEEDS:
        raise UsageError(f"--seeds {seeds}: an interval needs at least {FEWEST_SEEDS} seeds")
    if top < 1:
        raise UsageError(f"--top {top}: at least one configuration must be confirmed")


def candidates(study: StudyRecord, top: int) -> list[TrialRecord]:
    """The best `top` complete trials of different configurations, the best first, and the baseline.

    With landing, trials that ASHA stopped are among them by their predicted ends: a confirmation trains all anew. The
    baseline is among them whenever the study has one, whatever its result. It stands for trials that have the same
    configuration.

    Raises:
        UsageError: no trial is complete.
    """
    baseline, different = study.baseline, list[TrialRecord]()
    scores = {trial.number: trial.rank for trial in leaders(study, len(study.trials))}
    pruned = {trial.number for trial in study.trials if trial.status == "pruned"}
    scores |= {number: end.score for number, end in predicted_ends(study).items() if number in pruned}
    trials = (trial for trial in study.trials if trial.number in scores)
    for trial in sorted(trials, key=lambda trial: (-scores[trial.number], trial.number)):
        candidate = baseline if baseline is not None and trial.assigned == baseline.assigned else trial
        if all(candidate.assigned != other.assigned for other in different):
            different.append(candidate)
    best = different[:top]
    return best if baseline is None or baseline in best else [*best, baseline]


def too_few(study: StudyRecord, trials: Sequence[TrialRecord], top: int) -> str | None:
    """What a person must know if fewer configurations than `top` are complete; `trials` are the `candidates`."""
    complete = sum(trial.complete or trial.status == "pruned" for trial in trials)
    if complete >= top:
        return None
    if complete == 1:
        return f"{study.name} has 1 complete configuration, not {top}: it alone is trained again"
    return f"{study.name} has {complete} different complete configurations, not {top}: all of them are trained again"


def repeats(study: StudyRecord, trials: Sequence[TrialRecord], seeds: int) -> list[Planned]:
    """All trainings that may be needed, seed by seed, so that an interrupted confirmation has the same seeds for all.

    Every configuration gets as many seeds as any of them had before, so that the comparison is fair. A configuration
    that was confirmed before but is not in `trials` keeps its trainings, and is compared over the seeds it shares.
    """
    numbers = {trial.number for trial in trials}
    used = [trial.repeat.index + 1 for trial in study.repeats if trial.repeat and trial.repeat.trial in numbers]
    baseline = study.baseline.number if study.baseline else None
    values = [derive_seed(study.spec.seed, f"confirmation/{index}") for index in range(max([seeds, *used]))]
    return [
        (Repeat(trial.number, index, seed, trial.number == baseline, len(values)), trial.assigned)
        for index, seed in enumerate(values)
        for trial in trials
    ]


def due(study: StudyRecord, wanted: Sequence[Planned], *, retry: bool) -> list[Planned]:
    """The trainings of the next round of a confirmation, of all that are `wanted`; [] if none is needed any more.

    The first round has two seeds of every configuration, each further one has one more seed of those that the race
    left (`hpo.results.confirmation.dropped_by_race`). Two rounds are never mixed, so that no training is begun that
    the results of a running one could save.

    Args:
        retry: train again what failed; else a configuration that failed with a seed gets no further one.
    """
    waiting = missing(study, wanted, retry=retry)
    last = max(FEWEST_SEEDS - 1, min((repeat.index for repeat, _ in waiting), default=0))
    return [(repeat, values) for repeat, values in waiting if repeat.index <= last]


def missing(study: StudyRecord, wanted: Sequence[Planned], *, retry: bool) -> list[Planned]:
    """All trainings of those that are `wanted` that may still be needed, as far as the race is known.

    Args:
        retry: as in `due`.
    """
    ended = {trial.repeat for trial in latest(study.repeats) if trial.complete}
    failed = {trial.repeat for trial in latest(study.repeats) if trial.status == "failed"}
    left_out = set() if retry else {repeat.trial for repeat in failed if repeat}
    most = 1 + max(repeat.index for repeat, _ in wanted)
    known = evaluate(study.spec, study.repeats).ranking if study.repeats else ()
    dropped = dropped_by_race(known, study.spec.objective, most)
    return [
        (repeat, values)
        for repeat, values in wanted
        if repeat not in ended and repeat.trial not in left_out and repeat.trial not in dropped
    ]


def failures(study: StudyRecord, planned: Sequence[tuple[Repeat, object]]) -> list[str]:
    """The planned trainings whose last attempt failed, with the reason."""
    repeats = {repeat for repeat, _ in planned}
    failed = [trial for trial in latest(study.repeats) if trial.status == "failed" and trial.repeat in repeats]
    return [f"{trial.label} failed: {first_line(trial.outcome.reason)}" for trial in failed if trial.outcome]


def unfinished(study: StudyRecord, planned: Sequence[tuple[Repeat, object]]) -> bool:
    """Whether a planned training, or one from before, is still to be done."""
    begun = latest(study.repeats)
    ended = {trial.repeat for trial in begun if trial.outcome is not None and trial.outcome.final}
    return (
        len(ended) < len(begun) or any(repeat not in ended for repeat, _ in planned) or bool(failures(study, planned))
    )
