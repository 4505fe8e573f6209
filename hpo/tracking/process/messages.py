"""What a driver and its process for MLflow tell each other: plain records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hpo.clock import Clock
from hpo.errors import HpoError
from hpo.home import Home
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.spec.study import Spec

Figures = Callable[[StudyRecord], Mapping[str, bytes]]
"""Draws the plots of a study; returns the content of each image by its file name. A function of a module, because it
is sent by its name."""

# ------------------------------------------------------------------------------------------ from the driver


@dataclass(frozen=True)
class Load:
    """MLflow will be asked soon, so it may be imported meanwhile. There is no answer."""

    uri: str


@dataclass(frozen=True)
class Check:
    """Whether MLflow can take this study is asked; the answer is `Checked`."""

    spec: Spec
    home: Home


@dataclass(frozen=True)
class Begin:
    """A study begins or continues. Its trials follow."""

    study: StudyRecord
    """Without its trials."""
    home: Home
    figures: Figures | None
    """Draws the plots; None for none."""
    system_metrics: bool
    clock: Clock
    """Of the driver."""


@dataclass(frozen=True)
class Respecified:
    """The specification of a running study has changed."""

    study: StudyRecord
    """Without its trials."""


class Change(NamedTuple):
    """A trial that has changed, without what was sent before."""

    known: int
    """Number of its epochs that were sent before."""
    trial: TrialRecord
    """Its newest record, without those epochs."""


@dataclass(frozen=True)
class Changes:
    """A part of a batch. A batch counts once it is whole, because the course of a study follows from all its trials."""

    batch: int
    trials: tuple[Change, ...]
    whole: bool
    """Whether it is the last part of the batch."""


@dataclass(frozen=True)
class End:
    """The study has ended; the answer, after MLflow has got everything, is `Ended`."""

    study: StudyRecord
    """Without its trials."""


# -------------------------------------------------------------------------------------------- to the driver


@dataclass(frozen=True)
class Checked:
    """The answer to `Check`."""

    error: HpoError | None
    """Why MLflow cannot take the study; None if it can."""


class Taken(NamedTuple):
    """A record that MLflow has taken."""

    number: int
    """Of the trial."""
    batch: int
    """With which the record came."""
    run: str | None
    """The id of the trial's run; None before the trial has begun."""


@dataclass(frozen=True)
class Progress:
    """What has happened since the message before."""

    taken: tuple[Taken, ...]
    trouble: str | None
    """Why MLflow takes nothing at present; None while it does. Passwords are masked."""


@dataclass(frozen=True)
class Ended:
    """The last message."""

    trouble: str | None
    """Why MLflow has not got everything; None if it has."""
    notice: str | None = None
    """What a person must know beside this: of the files or of the plots."""
