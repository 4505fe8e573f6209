"""What a study takes over from earlier ones, as its ledger keeps it: the sampler and the report read it there."""

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
    """A trial of an earlier study in terms of the present space."""

    source: str
    """The study, or the exported file."""
    trial: int | None
    """Its number there; None where a file does not say."""
    values: Mapping[str, Choice]
    """Every parameter of the present space that is active."""
    horizon: int
    """Epochs of a full training there."""
    curve: Mapping[int, float]
    """Validation accuracy by epoch, at those epochs that tell something; empty for a file."""


@dataclass(frozen=True)
class Source:
    """What became of one earlier study."""

    name: str
    trials: int
    """All it has."""
    enqueued: int
    """Of its best, how many are tried first."""
    history: int
    """Trials whose results the sampler gets."""
    left_out: Mapping[str, int]
    """Trials that do not fit, by reason."""

    def __str__(self) -> str:
        left = "; ".join(f"{count} left out: {reason}" for reason, count in self.left_out.items())
        taken = f"{self.enqueued} configurations enqueued, {self.history} trials as history of {self.trials}"
        return f"{self.name}: {taken}" + (f"; {left}" if left else "")


@dataclass(frozen=True)
class Transfer:
    """Everything a study takes over, fixed when it is created: a resume needs no source."""

    sources: tuple[Source, ...] = ()
    first: tuple[Past, ...] = ()
    """Configurations to be tried first, in this order."""
    history: tuple[Past, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form of the study's attribute."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Transfer:
        """The inverse of `to_json`."""
        return cls(
            sources=tuple(Source(**one) for one in stored.get("sources", ())),
            first=_pasts(stored.get("first", ())),
            history=_pasts(stored.get("history", ())),
        )


NOTHING = Transfer()


def _pasts(stored: Sequence[Mapping[str, Any]]) -> tuple[Past, ...]:
    return tuple(
        Past(**{**one, "curve": {int(epoch): value for epoch, value in one["curve"].items()}}) for one in stored
    )


def telling(epochs: Sequence[int]) -> list[int]:
    """Of a curve's epochs, ascending, those that a model of all curves is given: 1, 4, 16, ... and the last."""
    return [epoch for epoch in epochs if epoch == epochs[-1] or _is_power(epoch, EPOCH_SPACING)]


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
