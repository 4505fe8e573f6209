"""A view for tests of whole studies: nothing on the terminal, everything kept."""

from __future__ import annotations

from hpo.driver.events import Event
from hpo.ledger.records import StudyRecord


class RecordingView:
    """Keeps what a driver tells its view."""

    def __init__(self) -> None:
        self.begun: list[StudyRecord] = []
        """The studies that were begun."""
        self.events: list[Event] = []

    @property
    def texts(self) -> list[str]:
        """The texts of the events, empty for events of a trial."""
        return [event.text for event in self.events]

    def begin(self, study: StudyRecord) -> None:
        self.begun.append(study)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
