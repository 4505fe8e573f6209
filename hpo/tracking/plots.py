"""Plots of a running study, drawn once per state and stored with its run."""

from __future__ import annotations

from hpo.ledger.records import StudyRecord
from hpo.tracking.process.messages import Figures
from hpo.tracking.study_content import drawn
from hpo.tracking.study_run import StudyRun


class Plots:
    """Keeps the plots of one study current. A figure that fails ends the drawing and costs no records."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._drawn: str | None = None
        self.failure: str | None = None
        """The error that ended the drawing."""

    def update(self, run: StudyRun, study: StudyRecord) -> None:
        """Draw the study and store the images, unless the newest ones show this state already."""
        if self.failure or self._drawn == drawn(study):
            return
        try:
            images = self._figures(study)
        except Exception as error:  # noqa: BLE001 - reported when the study ends
            self.failure = f"{type(error).__name__}: {error}"
            return
        run.draw(study, images)
        self._drawn = drawn(study)
