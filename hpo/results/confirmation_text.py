"""A confirmation as sentences, table rows and JSON, for the terminal, MLflow and the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from hpo.results.confirmation import Confirmation, Confirmed
from hpo.results.intervals import Interval
from hpo.spec.objectives import VAL_ACCURACY, Objective

COLUMNS = ("trial", "mean", "95 % interval", "seeds", "compute", "verdict")


def lines(confirmation: Confirmation) -> Iterator[str]:
    """The result so far, one sentence per line, the choice first."""
    if not confirmation.complete:
        yield f"Confirmation not finished: {confirmation.done} of {confirmation.planned} trainings have ended."
        return
    if failed := sum(entry.failed for entry in confirmation.ranking):
        yield f"{failed} of {confirmation.planned} trainings failed. The next `hpo confirm` of the study repeats them."
    if confirmation.chosen is None or confirmation.chosen.interval is None:
        yield "Nothing is confirmed: every configuration failed with at least one seed."
        return
    chosen, goal = confirmation.chosen, confirmation.objective
    mean = accuracy(confirmation.chosen.interval, goal)
    yield f"Confirmed: trial {chosen.trial}, mean {goal.label} {mean} over {len(chosen.accuracies)} new seeds"
    yield gain(confirmation)


def gain(confirmation: Confirmation) -> str:
    """How much better than the baseline the choice is."""
    baseline, name = confirmation.baseline, confirmation.baseline_name
    if baseline is None:
        return "Gain over the baseline: unknown, because the study has no baseline (nothing is enqueued)"
    if confirmation.chosen is not None and confirmation.chosen.baseline:
        return f"It is the {name}: no other configuration is better by more than chance, or equally good and cheaper"
    if confirmation.gain is None:
        return f"Gain over the {name} (trial {baseline.trial}): unknown, because the baseline failed with a seed"
    return f"Gain over the {name} (trial {baseline.trial}): {points(confirmation.gain, confirmation.objective)}"


def accuracy(interval: Interval, objective: Objective = VAL_ACCURACY) -> str:
    """`93.21 % (95 % interval 92.90 to 93.52 %)`."""
    unit = " %" if objective.is_accuracy else ""
    return f"{objective.show_score(interval.mean)} (95 % interval {interval_range(interval, objective)}{unit})"


def points(difference: Interval, objective: Objective = VAL_ACCURACY) -> str:
    """`+0.80 points (95 % interval +0.20 to +1.40, paired by seed)`."""
    unsure = "" if difference.significant else "; within noise: it includes zero"
    if not objective.is_accuracy:
        low, high = sorted(objective.score(end) for end in (difference.low, difference.high))
        return (
            f"{objective.show_gain(difference.mean)} (95 % interval {low:+.3g} to {high:+.3g}, paired by seed{unsure})"
        )
    return (
        f"{100 * difference.mean:+.2f} points (95 % interval {100 * difference.low:+.2f} to "
        f"{100 * difference.high:+.2f}, paired by seed{unsure})"
    )


def interval_range(interval: Interval, objective: Objective = VAL_ACCURACY) -> str:
    """`92.90 to 93.52`: the ends of an interval of scores, without the unit."""
    if not objective.is_accuracy:
        low, high = sorted(objective.score(end) for end in (interval.low, interval.high))
        return f"{objective.show(low)} to {objective.show(high)}"
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def rows(confirmation: Confirmation) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` per configuration; compute in percent of the most expensive configuration."""
    most = max((entry.compute or 0.0 for entry in confirmation.ranking), default=0.0)
    return [
        (
            str(entry.trial) + (" (baseline)" if entry.baseline else ""),
            confirmation.objective.show_score(entry.interval.mean if entry.interval else None),
            interval_range(entry.interval, confirmation.objective) if entry.interval else "–",  # the title has the unit
            str(len(entry.accuracies)),
            f"{100 * entry.compute / most:.0f} %" if entry.compute else "–",
            _verdict(confirmation, entry),
        )
        for entry in confirmation.ranking
    ]


def _verdict(confirmation: Confirmation, entry: Confirmed) -> str:
    if entry is confirmation.chosen:
        tied = sum(other.tied for other in confirmation.ranking)
        return f"chosen: cheapest of {tied} tied" if tied > 1 else "chosen: better than others"
    if entry.failed:
        return f"failed with {entry.failed} of its seeds"
    if entry.waiting:
        return f"{entry.waiting} trainings to do"
    return "tied with the highest mean" if entry.tied else "worse"


def verdict(confirmation: Confirmation | None) -> str:
    """Sentences and table as plain text."""
    if confirmation is None:
        return "Nothing has been confirmed."
    table = [COLUMNS, *rows(confirmation)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    aligned = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "\n".join([*lines(confirmation), *aligned])


def markdown(confirmation: Confirmation) -> list[str]:
    """Sentences and table for MLflow."""
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows(confirmation)]
    return [*(f"{line}  " for line in lines(confirmation)), "", *(f"| {' | '.join(row)} |" for row in table)]


def confirmation_json(confirmation: Confirmation | None) -> dict[str, Any] | None:
    """The confirmation as JSON, for programs. Accuracies and intervals are values of the study's objective; the gain is
    positive where the choice is better than the baseline."""
    if confirmation is None:
        return None
    goal = confirmation.objective
    return {
        "complete": confirmation.complete,
        "done": confirmation.done,
        "planned": confirmation.planned,
        "chosen": confirmation.chosen.trial if confirmation.chosen else None,
        "gain": dataclasses.asdict(confirmation.gain) if confirmation.gain else None,
        "ranking": [
            {
                "trial": entry.trial,
                "baseline": entry.baseline,
                "accuracies": {str(seed): goal.score(score) for seed, score in sorted(entry.accuracies.items())},
                "interval": dataclasses.asdict(entry.interval.in_units_of(goal)) if entry.interval else None,
                "failed": entry.failed,
                "waiting": entry.waiting,
                "compute": entry.compute,
                "tied": entry.tied,
            }
            for entry in confirmation.ranking
        ],
    }
