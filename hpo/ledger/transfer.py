"""What a study takes over from earlier studies. The ledger keeps it; the sampler and the report read it there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.spec.parameters import Choice

TRANSFER_KEY = "hpo:transfer"
"""Name of the study's attribute in the Optuna storage."""
EPOCH_SPACING = 4


@dataclass(frozen=True)
class Past:
    """A trial of an earlier study, translated to the space of this study."""

    source: str
    """Name of the earlier study, or path of the exported file."""
    trial: int | None
    """Its number in the earlier study; None if a file does not say."""
    values: Mapping[str, Choice]
    """The value of every active parameter of this study's space."""
    horizon: int
    """Epochs of a full training in the earlier study."""
    curve: Mapping[int, float]
    """Validation accuracy by epoch, at the epochs that `thinned` keeps; empty for a file."""


@dataclass(frozen=True)
class Source:
    """How much of one earlier study is used."""

    name: str
    trials: int
    """Number of its trials."""
    enqueued: int
    """Number of its best configurations that are tried first."""
    history: int
    """Number of trials whose results the sampler uses."""
    left_out: Mapping[str, int]
    """Number of trials that do not fit, by reason."""

    def __str__(self) -> str:
        left = "; ".join(f"{count} left out: {reason}" for reason, count in self.left_out.items())
        taken = f"{self.enqueued} configurations enqueued, {self.history} trials as history of {self.trials}"
        return f"{self.name}: {taken}" + (f"; {left}" if left else "")


@dataclass(frozen=True)
class Transfer:
    """Everything that a study takes over. Fixed when the study is created, so a resume needs no earlier study."""

    sources: tuple[Source, ...] = ()
    first: tuple[Past, ...] = ()
    """Configurations that are tried first, in this order."""
    history: tuple[Past, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The content of the study's attribute."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Transfer:
        """Read the content of the study's attribute."""
        return cls(
            sources=tuple(Source(**source) for source in stored.get("sources", ())),
            first=_pasts(stored.get("first", ())),
            history=_pasts(stored.get("history", ())),
        )


NOTHING = Transfer()


def _pasts(stored: Sequence[Mapping[str, Any]]) -> tuple[Past, ...]:
    return tuple(
        Past(**{**past, "curve": {int(epoch): value for epoch, value in past["curve"].items()}}) for past in stored
    )


def thinned(epochs: Sequence[int]) -> list[int]:
    """The epochs of a learning curve that the model of all curves uses: 1, 4, 16, ... and the last.

    Args:
        epochs: in ascending order.
    """
    return [epoch for epoch in epochs if epoch == epochs[-1] or _is_power(epoch, EPOCH_SPACING)]


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
