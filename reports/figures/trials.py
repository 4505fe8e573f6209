"""How trials are named, thinned and placed in figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.text import percent
from reports.drawing.plot import Axis
from reports.figures.scales import values_text

ACCURACY = "Validation accuracy (%)"
NO_REPORT = "No trial has reported an epoch yet."


def hover(study: StudyRecord, trial: TrialRecord, compared: bool) -> str:
    """What a person wants to know of a point."""
    name = f"{study.name}, trial {trial.number}" if compared else f"trial {trial.number}"
    role = ", default recipe" if trial.enqueued and trial is study.baseline else ""
    reached = f"{len(trial.epochs)} of {study.spec.train.epochs} epochs, {percent(trial.value)}"
    return f"{name}{role}: {trial.status}\n{reached}\n{values_text(trial.values)}"


def points(value: float) -> float:
    """A fraction in percent, to a thousandth: more digits only make the file larger."""
    return round(100 * value, 3)


def thin(study: StudyRecord, trials: Sequence[TrialRecord], limit: int) -> list[TrialRecord]:
    """At most `limit` of the trials, by number: the best quarter of that, the baseline, and an even sample."""
    if len(trials) <= limit:
        return list(trials)
    ranked = sorted(trials, key=lambda one: (one.complete, one.value or 0.0), reverse=True)
    kept = {one.number for one in ranked[: limit // 4]}
    kept |= {one.number for one in (study.best, study.baseline) if one is not None}
    rest = [one for one in trials if one.number not in kept]
    room = limit - len(kept)
    kept |= {rest[index * len(rest) // room].number for index in range(room)}
    return [one for one in trials if one.number in kept]


def thinned_note(shown: int, total: int) -> str:
    """Says so where not all is shown."""
    if shown >= total:
        return ""
    return f" Shown are {shown:,} of {total:,} trials: the best and an even sample of the others."


def accuracy_axis(values: Iterable[float], title: str = ACCURACY) -> tuple[Axis, int]:
    """An axis for accuracies in percent, and how many of `values` lie below what it shows.

    A few trials near chance would press all others together; up to a tenth of the values are left out of the
    first view for that.
    """
    ordered = sorted(values)
    if not ordered:
        return Axis(title), 0
    low, high = ordered[len(ordered) // 10], ordered[-1]
    if high - ordered[0] <= 2.5 * (high - low) or high == low:
        low = ordered[0]
    else:
        low = next(value for value in ordered if value >= low - 0.5 * (high - low))
    margin = 0.06 * (high - low) or 0.5
    below = sum(value < low - margin for value in ordered)
    return Axis(title, span=(low - margin, min(high + margin, 100.4))), below


def below_note(below: int) -> str:
    """Says so where some values lie outside the first view."""
    return f" {below:,} lower values lie below the visible range." if below else ""
