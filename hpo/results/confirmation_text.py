"""A confirmation in words, rows and JSON: for the terminal, MLflow and the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from hpo.results.confirmation import Confirmation, Confirmed
from hpo.results.paired_tests import Interval
from hpo.text import percent

COLUMNS = ("trial", "mean", "95 % interval", "seeds", "compute", "verdict")


def lines(found: Confirmation) -> Iterator[str]:
    """What is known, the choice first: one sentence a line."""
    if not found.complete:
        yield f"Confirmation not finished: {found.done} of {found.planned} trainings have ended."
        return
    if failed := sum(one.failed for one in found.ranking):
        yield f"{failed} of {found.planned} trainings failed; hpo confirm tries them again."
    if found.chosen is None or found.chosen.interval is None:
        yield "Nothing is confirmed: every configuration failed with at least one seed."
        return
    yield (
        f"Confirmed: trial {found.chosen.trial}, mean validation accuracy {accuracy(found.chosen.interval)} "
        f"over {len(found.chosen.accuracies)} fresh seeds"
    )
    yield gain(found)


def gain(found: Confirmation) -> str:
    """How much better than the default recipe the choice is."""
    if found.baseline is None:
        return "Gain over the default recipe: unknown, the study has none (nothing is enqueued)"
    if found.chosen is not None and found.chosen.baseline:
        return "It is the default recipe: nothing is better by more than chance, or as good and cheaper"
    if found.gain is None:
        return f"Gain over the default recipe (trial {found.baseline.trial}): unknown, it failed with some seed"
    return f"Gain over the default recipe (trial {found.baseline.trial}): {points(found.gain)}"


def accuracy(found: Interval) -> str:
    """`93.21 % (95 % interval 92.90 to 93.52 %)`."""
    return f"{percent(found.mean)} (95 % interval {_range(found)} %)"


def points(found: Interval) -> str:
    """A difference: `+0.80 points (95 % interval +0.20 to +1.40, paired by seed)`."""
    sure = "" if found.significant else "; it includes zero"
    return (
        f"{100 * found.mean:+.2f} points (95 % interval {100 * found.low:+.2f} to {100 * found.high:+.2f}, "
        f"paired by seed{sure})"
    )


def _range(found: Interval) -> str:
    return f"{100 * found.low:.2f} to {100 * found.high:.2f}"


def rows(found: Confirmation) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` per configuration; compute in percent of the dearest."""
    dearest = max((one.compute or 0.0 for one in found.ranking), default=0.0)
    return [
        (
            str(one.trial) + (" (recipe)" if one.baseline else ""),
            percent(one.interval.mean if one.interval else None),
            _range(one.interval) if one.interval else "–",  # the title has the unit
            str(len(one.accuracies)),
            f"{100 * one.compute / dearest:.0f} %" if one.compute else "–",
            _word(found, one),
        )
        for one in found.ranking
    ]


def _word(found: Confirmation, one: Confirmed) -> str:
    if one is found.chosen:
        tied = sum(other.tied for other in found.ranking)
        return f"chosen: cheapest of {tied} tied" if tied > 1 else "chosen: better than others"
    if one.failed:
        return f"failed with {one.failed} of its seeds"
    if one.waiting:
        return f"{one.waiting} trainings to go"
    return "tied with the highest mean" if one.tied else "worse"


def verdict(found: Confirmation | None) -> str:
    """All of it as plain text."""
    if found is None:
        return "Nothing has been confirmed."
    table = [COLUMNS, *rows(found)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    aligned = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "\n".join([*lines(found), *aligned])


def markdown(found: Confirmation) -> list[str]:
    """The same for MLflow."""
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows(found)]
    return [*(f"{line}  " for line in lines(found)), "", *(f"| {' | '.join(row)} |" for row in table)]


def confirmation_json(found: Confirmation | None) -> dict[str, Any] | None:
    """For programs."""
    if found is None:
        return None
    return {
        "complete": found.complete,
        "done": found.done,
        "planned": found.planned,
        "chosen": found.chosen.trial if found.chosen else None,
        "gain": dataclasses.asdict(found.gain) if found.gain else None,
        "ranking": [
            {
                "trial": one.trial,
                "baseline": one.baseline,
                "accuracies": {str(seed): value for seed, value in sorted(one.accuracies.items())},
                "interval": dataclasses.asdict(one.interval) if one.interval else None,
                "failed": one.failed,
                "waiting": one.waiting,
                "compute": one.compute,
                "tied": one.tied,
            }
            for one in found.ranking
        ],
    }
