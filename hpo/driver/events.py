"""What happens while a study runs, for people and programs that watch it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from hpo.ledger.records import StudyRecord, TrialRecord


@dataclass(frozen=True)
class Event:
    """Something that a person who watches wants to see."""

    kind: Literal["started", "resumed", "placed", "epoch", "finished", "lost", "let_go", "notice", "study"]
    """`placed`: its worker has said what it does next. `let_go`: it was pruned, and will not be taken up any more."""
    trial: TrialRecord | None = None
    """The trial as recorded after the event; None for a notice and for a change of the study."""
    text: str = ""
    """Only of a notice."""
    study: StudyRecord | None = None
    """The study without its trials, after a change of its specification or of its pause; None for other events."""


Listener: TypeAlias = Callable[[Event], None]


class Announcer:
    """Tells a listener what happens in a study."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def trial(
        self, kind: Literal["started", "resumed", "placed", "epoch", "finished", "lost", "let_go"], trial: TrialRecord
    ) -> None:
        """Something has happened to a trial, which is given as recorded after it."""
        self._listener(Event(kind, trial))

    def study(self, study: StudyRecord) -> None:
        """The specification or the pause of the study has changed."""
        self._listener(Event("study", study=dataclasses.replace(study, trials=())))

    def notice(self, text: str) -> None:
        """A person who watches is to know this."""
        self._listener(Event("notice", text=text))


class View(Protocol):
    """Shows a study while it runs."""

    def begin(self, study: StudyRecord) -> None:
        """Start showing `study`, which is open and about to run."""

    def __call__(self, event: Event) -> None:
        """Show one event of the study."""
