"""What the figures share: names of trials, samples of many trials, and the axis of accuracies."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.pareto import front
from hpo.results.winner import winner
from hpo.spec.objectives import Objective
from reports.drawing.plot import Axis
from reports.figures.scales import values_text

NO_REPORT = "No trial has reported an epoch yet."


def hover(study: StudyRecord, trial: TrialRecord, compared: bool) -> str:
    """The text that appears when the pointer rests on a trial."""
    name = f"{study.name}, trial {trial.number}" if compared else f"trial {trial.number}"
    role = f", {title}" if (title := called(study, trial)) else ""
    reached = f"{len(trial.epochs)} of {study.spec.train.epochs} epochs, {study.spec.objective.show_score(trial.value)}"
    return f"{name}{role}: {trial.status}\n{reached}\n{values_text(trial.assigned)}"


def called(study: StudyRecord, trial: TrialRecord) -> str | None:
    """`baseline (LABEL)`, or what a person called another configuration; None if nobody did."""
    return study.spec.baseline_name if trial.enqueued and trial is study.baseline else trial.title


def best_trial(study: StudyRecord) -> TrialRecord | None:
    """The trial that the page calls the best: see `hpo.results.winner.winner`."""
    found = winner(study)
    return found.trial if found else None


def thin(study: StudyRecord, trials: Sequence[TrialRecord], limit: int) -> list[TrialRecord]:
    """At most `limit` of the trials, in their order. Always: the best trial, the baseline, the Pareto front.

    The rest are the best of the others, at most a quarter of `limit`, the complete controls, at most another quarter,
    and an even sample of what is left. A larger number of controls is sampled evenly, too.
    """
    if len(trials) <= limit:
        return list(trials)
    among = {trial.number for trial in trials}
    marked = [best_trial(study), study.baseline, *(front(study) if len(study.spec.objectives) > 1 else ())]
    kept = dict.fromkeys(trial.number for trial in marked if trial is not None and trial.number in among)
    ranked = heapq.nlargest(limit // 4, trials, key=lambda trial: (trial.complete, trial.rank))
    controls = [trial for trial in trials if trial.control and trial.complete]
    kept |= dict.fromkeys(trial.number for trial in (*ranked, *evenly(controls, limit // 4)))
    rest = [trial for trial in trials if trial.number not in kept]
    kept |= dict.fromkeys(trial.number for trial in evenly(rest, max(0, limit - len(kept))))
    chosen = set(list(kept)[:limit])
    return [trial for trial in trials if trial.number in chosen]


def evenly(trials: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """At most `count` of the trials, at equal distances."""
    if len(trials) <= count:
        return list(trials)
    return [trials[index * len(trials) // count] for index in range(count)]


def thinned_note(shown: int, total: int) -> str:
    """A sentence that says how many trials are shown; empty if all are."""
    if shown >= total:
        return ""
    return (
        f" The figure shows {shown:,} of {total:,} trials: the best, the baseline, controls, and an even sample of the "
        "others."
    )


def score_axis(objective: Objective, scores: Iterable[float], title: str = "") -> tuple[Axis, int]:
    """An axis for scores, for example accuracies in percent, and how many of them are below its range.

    A few trials with very low scores would squeeze all others together, so the range may leave out up to a tenth of
    the scores.
    """
    values, title = map(objective.plotted, scores), title or objective.axis
    ordered = sorted(values)
    if not ordered:
        return Axis(title), 0
    low, high = ordered[len(ordered) // 10], ordered[-1]
    if high - ordered[0] <= 2.5 * (high - low) or high == low:
        low = ordered[0]
    else:
        low = next(value for value in ordered if value >= low - 0.5 * (high - low))
    margin = 0.06 * (high - low) or (0.5 if objective.is_accuracy else 0.05 * abs(high) or 0.5)
    top = 100.4 if objective.is_accuracy else math.inf
    below = sum(value < low - margin for value in ordered)
    return Axis(title, span=(low - margin, min(high + margin, top))), below


def below_note(below: int) -> str:
    """A sentence that says how many values lie below the range of the axis; empty if none do."""
    return f" Values below the visible range: {below:,}." if below else ""
