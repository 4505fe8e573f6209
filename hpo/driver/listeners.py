"""What a driver does at every event of its study beside showing it, one job per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

from hpo.driver.decisions.tally import Tally
from hpo.driver.events import Event
from hpo.errors import InfrastructureError
from hpo.export.incumbent import Incumbent
from hpo.home import Home
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import storage_errors
from hpo.ledger.writer import Ledger
from hpo.redact import redact
from hpo.text import duration, first_line
from hpo.tracking.tracker import CLOSE_LIMIT_S, Tracker
from trainers.checkpoint import DirectoryStore, removable, stored_files

_T = TypeVar("_T")
MUCH = 50
"""Trials by which MLflow is behind before a person is told."""


class BestFile:
    """Keeps `best.yaml` current. Between two changes of what it says, an event costs next to nothing."""

    def __init__(self, study: StudyRecord, tally: Tally, home: Home) -> None:
        self._study = study
        self._tally = tally
        self._file = Incumbent(home)
        self._said: tuple[object, ...] | None = None
        self._confirmed = {trial.repeat.trial for trial in study.repeats if trial.repeat}
        self._always = tuple(trial for trial in study.trials if trial.number in self._confirmed)
        self._update()  # a dead driver may have left an old one

    def __call__(self, event: Event) -> None:
        """Write the file if an event of a trial changed what is best."""
        if event.trial is not None:
            self._update()

    def _update(self) -> None:
        best = self._tally.incumbent
        if best is None or (says := (best.number, best.complete, len(best.epochs), best.value)) == self._said:
            return
        # The file tells of no other trials than these.
        trials = [*self._always, *([] if best.number in self._confirmed else [best])]
        trials.sort(key=lambda trial: trial.number)
        self._file.update(dataclasses.replace(self._study, trials=tuple(trials)))
        self._said = says


class MlflowLink:
    """Passes trials to MLflow, and the ids of their runs from MLflow to the ledger."""

    def __init__(self, ledger: Ledger, tracker: Tracker | None) -> None:
        """`tracker` is None where tracking is off; then there is nothing to do."""
        self._ledger = ledger
        self._tracker = tracker
        self._told = MUCH // 2

    def __call__(self, event: Event) -> None:
        """Pass on a trial's newest record; returns at once."""
        if self._tracker and event.trial is not None:
            self._record_runs()
            self._tracker.update(self._ledger.trial(event.trial.number))

    @property
    def lag(self) -> str | None:
        """`MLflow is 120 trials behind`, when it is `MUCH` behind, and again whenever that has doubled."""
        behind = self._tracker.behind if self._tracker else 0
        if behind < 2 * self._told:
            return None
        self._told = behind
        return f"MLflow is {behind:,} trials behind; training does not wait for it"

    @property
    def waiting(self) -> str | None:
        """What a person reads while `catch_up` waits; None if there is little to wait for."""
        behind = self._tracker.behind if self._tracker else 0
        if behind < MUCH:
            return None
        return f"MLflow is {behind:,} trials behind; waiting for it, at most {duration(CLOSE_LIMIT_S)}"

    def catch_up(self) -> str | None:
        """Wait until MLflow has everything; returns what a person must know if it did not take everything."""
        if self._tracker is None:
            return None
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
    """Deletes the checkpoints of ended trials that `storage.keep` does not name.

    The store may be slow, so a thread of its own does this while the study continues.
    """

    def __init__(self, folder: str, keep: Literal["all", "complete", "unfinished"]) -> None:
        self._folder = folder
        self._keep = keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._error: Exception | None = None

    def __call__(self, event: Event) -> None:
        """Clean up after a trial that has just ended; returns at once."""
        if event.kind == "finished" and event.trial is not None and _ended(event.trial):
            self._thread.submit(self._guarded, self._drop, event.trial)

    def catch_up(self, trials: Iterable[TrialRecord]) -> None:
        """Do what an earlier driver left undone; returns at once."""
        if ended := [trial for trial in trials if _ended(trial)]:
            self._thread.submit(self._guarded, self._drop_left, ended)

    def close(self, *, at_once: bool) -> str | None:
        """Wait until everything is deleted; returns what a person must know if it was not.

        Args:
            at_once: leave the rest to the next driver.
        """
        self._thread.shutdown(cancel_futures=at_once)
        if self._error is None:
            return None
        return (
            f"warning: checkpoints of ended trials in {redact(self._folder)} cannot be deleted: "
            f"{redact(first_line(self._error))}; `hpo resume` tries it again"
        )

    def _drop_left(self, ended: list[TrialRecord]) -> None:
        """One listing tells which trials have more files than they may keep."""
        stored = stored_files(self._folder)
        for trial in ended:
            if removable(stored.get(f"{trial.number:05d}", []), keep_last=self._keeps(trial)):
                self._drop(trial)

    def _drop(self, trial: TrialRecord) -> None:
        DirectoryStore(f"{self._folder}/{trial.number:05d}").drop(keep_last=self._keeps(trial))

    def _keeps(self, trial: TrialRecord) -> bool:
        return self._keep == "all" or (self._keep == "complete" and trial.status == "complete")

    def _guarded(self, job: Callable[[_T], None], argument: _T) -> None:
        """The study continues whatever the store says; `close` tells the first error."""
        try:
            job(argument)
        except Exception as error:  # noqa: BLE001 - each kind of store has its own errors
            self._error = self._error or error


def _ended(trial: TrialRecord) -> bool:
    return trial.outcome is not None and trial.outcome.final
