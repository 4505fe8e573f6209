"""A confirmation as sentences, table rows and JSON, for the terminal, MLflow and the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from hpo.results.confirmation import Confirmation, Confirmed
from hpo.results.intervals import Interval
from hpo.text import percent

COLUMNS = ("trial", "mean", "95 % interval", "seeds", "compute", "verdict")


def lines(confirmation: Confirmation) -> Iterator[str]:
    """The result so far, one sentence per line, the choice first."""
    if not confirmation.complete:
        yield f"Confirmation not finished: {confirmation.done} of {confirmation.planned} trainings have ended."
        return
    if failed := sum(entry.failed for entry in confirmation.ranking):
        yield f"{failed} of {confirmation.planned} trainings failed. Type `hpo confirm` again to repeat them."
    if confirmation.chosen is None or confirmation.chosen.interval is None:
        yield "Nothing is confirmed: every configuration failed with at least one seed."
        return
    yield (
        f"Confirmed: trial {confirmation.chosen.trial}, mean validation accuracy "
        f"{accuracy(confirmation.chosen.interval)} over {len(confirmation.chosen.accuracies)} new seeds"
    )
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
    return f"Gain over the {name} (trial {baseline.trial}): {points(confirmation.gain)}"


def accuracy(interval: Interval) -> str:
    """`93.21 % (95 % interval 92.90 to 93.52 %)`."""
    return f"{percent(interval.mean)} (95 % interval {_range(interval)} %)"


def points(difference: Interval) -> str:
    """`+0.80 points (95 % interval +0.20 to +1.40, paired by seed)`."""
    unsure = "" if difference.significant else "; within noise: it includes zero"
    return (
        f"{100 * difference.mean:+.2f} points (95 % interval {100 * difference.low:+.2f} to "
        f"{100 * difference.high:+.2f}, paired by seed{unsure})"
    )


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def rows(confirmation: Confirmation) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` per configuration; compute in percent of the most expensive configuration."""
    most = max((entry.compute or 0.0 for entry in confirmation.ranking), default=0.0)
    return [
        (
            str(entry.trial) + (" (baseline)" if entry.baseline else ""),
            percent(entry.interval.mean if entry.interval else None),
            _range(entry.interval) if entry.interval else "–",  # the title has the unit
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
    """The confirmation as JSON, for programs."""
    if confirmation is None:
        return None
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
                "accuracies": {str(seed): value for seed, value in sorted(entry.accuracies.items())},
                "interval": dataclasses.asdict(entry.interval) if entry.interval else None,
                "failed": entry.failed,
                "waiting": entry.waiting,
                "compute": entry.compute,
                "tied": entry.tied,
            }
            for entry in confirmation.ranking
        ],
    }
