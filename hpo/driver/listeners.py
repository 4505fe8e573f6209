"""What a driver does at every event of its study beside showing it, one job per class."""

from __future__ import annotations

from collections.abc import Iterable

from hpo.driver.events import Event
from hpo.errors import InfrastructureError
from hpo.export.incumbent import Incumbent
from hpo.home import Home
from hpo.ledger.records import TrialRecord
from hpo.ledger.storage import storage_errors
from hpo.ledger.writer import Ledger
from hpo.tracking.tracker import Tracker
from trainers.checkpoint import DirectoryStore


class BestFile:
    """Keeps `best.yaml` current."""

    def __init__(self, ledger: Ledger, home: Home) -> None:
        self._ledger = ledger
        self._file = Incumbent(home)
        self._file.update(ledger.study)  # a dead driver may have left an old one

    def __call__(self, event: Event) -> None:
        """Write the file if an event of a trial changed what is best."""
        if event.trial is not None:
            self._file.update(self._ledger.study)


class MlflowLink:
    """Passes trials to MLflow, and the ids of their runs from MLflow to the ledger."""

    def __init__(self, ledger: Ledger, tracker: Tracker | None) -> None:
        """`tracker` is None where tracking is off; then there is nothing to do."""
        self._ledger = ledger
        self._tracker = tracker

    def __call__(self, event: Event) -> None:
        """Pass on a trial's newest record; returns at once."""
        if self._tracker and event.trial is not None:
            self._record_runs()
            self._tracker.update(self._ledger.trial(event.trial.number))

    def catch_up(self) -> str | None:
        """Wait until MLflow has everything; returns what a person must know if it did not take everything."""
        if self._tracker is None:
            return None
        for trial in self._ledger.trials:
            self._tracker.update(trial)
        return self._tracker.close(self._ledger.study)

    def close(self) -> None:
        """Record the runs that MLflow made last.

        Raises:
            InfrastructureError: the ledger cannot be written to.
        """
        try:
            self._record_runs()
        except storage_errors() as error:
            raise InfrastructureError(f"the ledger failed at the very end: {error}") from error

    def _record_runs(self) -> None:
        for number, run_id in self._tracker.linked() if self._tracker else ():
            self._ledger.link_run(number, run_id)


class CheckpointCleaner:
    """Deletes the checkpoints of trials that have ended, except the last one of each."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, event: Event) -> None:
        """Clean up after a trial that has just ended."""
        if event.kind == "finished" and event.trial is not None:
            self.clean([event.trial])

    def clean(self, trials: Iterable[TrialRecord]) -> None:
        """Clean up after those of the trials that have ended for good."""
        for trial in trials:
            if trial.outcome is not None and trial.outcome.final:
                DirectoryStore(f"{self._folder}/{trial.number:05d}").drop(keep_last=True)
