"""What a driver does at every event of its study beside showing it, one job per class."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from hpo.results.pruning.ends import predicted_ends
from hpo.text import duration, first_line
from hpo.tracking.tensorboard import EventFiles
from hpo.tracking.tracker import CLOSE_LIMIT_S, Tracker
from trainers.checkpoint import DirectoryStore, removable, stored_files

_T = TypeVar("_T")
NOTE_S = 30.0
"""Seconds of clean-ups after which they are recorded. What a driver that dies has not recorded is looked at again."""
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
        """Write the file if an event of a trial changed what is best, or if the specification has changed."""
        if event.study is not None:
            self._study, self._said = event.study, None
        if event.trial is not None or event.study is not None:
            self._update()

    def _update(self) -> None:
        best = self._tally.incumbent
        if best is None or (says := (best.number, best.complete, len(best.epochs), best.value)) == self._said:
            return
        # The file tells of no other trials than these.
        trials = [*self._always, *([] if best.number in self._confirmed else [best])]
        trials.sort(key=lambda trial: trial.number)
        self._file.update(dataclasses.replace(self._study, trials=tuple(trials)), self._predicted(best))
        self._said = says

    def _predicted(self, best: TrialRecord) -> str | None:
        """What is expected of the best trial, if it is not complete and the study lands."""
        if best.complete or not self._study.spec.search.landing:
            return None
        end = predicted_ends(dataclasses.replace(self._study, trials=self._tally.trials)).get(best.number)
        return end.shown(self._study.spec.objective) if end else None


@contextmanager
def last_records() -> Iterator[None]:
    """What is recorded after the end of the study.

    Raises:
        InfrastructureError: the ledger cannot be written to.
    """
    try:
        yield
    except storage_errors() as error:
        raise InfrastructureError(f"the ledger failed at the very end: {error}") from error


class MlflowLink:
    """Passes trials to MLflow, and the ids of their runs from MLflow to the ledger."""

    def __init__(self, ledger: Ledger, tracker: Tracker | None) -> None:
        """`tracker` is None where tracking is off; then there is nothing to do."""
        self._ledger = ledger
        self._tracker = tracker
        self._told = MUCH // 2

    def __call__(self, event: Event) -> None:
        """Pass on a trial's newest record, or another specification of the study; returns at once."""
        if self._tracker and event.study is not None:
            self._tracker.respecify(event.study)
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
        """Record the runs that MLflow made last."""
        self._record_runs()
        self._ledger.write_notes()

    def _record_runs(self) -> None:
        for number, run_id in self._tracker.linked() if self._tracker else ():
            self._ledger.link_run(number, run_id)


def to_event_files(ledger: Ledger, files: EventFiles) -> Callable[[Event], None]:
    """Passes a trial's newest record to the event files; returns at once."""

    def listen(event: Event) -> None:
        if event.trial is not None:
            files.update(ledger.trial(event.trial.number))

    return listen


class CheckpointCleaner:
    """Deletes the checkpoints of ended trials that `storage.keep` does not name.

    The store may be slow, so a thread of its own does this while the study continues. Trials are cleaned up in the
    order of their ends, so one time tells the next driver which of them are done.
    """

    def __init__(
        self,
        folder: str,
        keep: Literal["all", "complete", "unfinished"],
        note: Callable[[float], None] = lambda until: None,
    ) -> None:
        """
        Args:
            note: records that all trials that ended until a time, seconds since the epoch, are done.
        """
        self._folder = folder
        self._keep = keep
        self._note = note
        self._until = self._noted = 0.0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._error: Exception | None = None

    def __call__(self, event: Event) -> None:
        """Clean up after a trial that has just ended; returns at once."""
        if event.kind in ("finished", "let_go") and event.trial is not None and _ended(event.trial):
            self._thread.submit(self._guarded, self._drop, [event.trial])
            if self._until > self._noted + NOTE_S:
                self.note()

    def catch_up(self, trials: Iterable[TrialRecord], until: float = 0.0) -> None:
        """Do what an earlier driver left undone; returns at once.

        Args:
            until: trials that ended until then are done, as `note` recorded; 0 where nothing is known.
        """
        self._until = self._noted = until
        ended = [trial for trial in trials if _ended(trial) and (trial.finished or math.inf) > until]
        if ended:
            ended.sort(key=lambda trial: trial.finished or 0.0)
            self._thread.submit(self._guarded, self._drop if until else self._drop_left, ended)

    def note(self) -> None:
        """Record how far the clean-up has come."""
        if (until := self._until) > self._noted:
            self._note(until)
            self._noted = until

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
                self._drop([trial])
        self._until = max(self._until, *(trial.finished or 0.0 for trial in ended))

    def _drop(self, ended: list[TrialRecord]) -> None:
        for trial in ended:
            DirectoryStore(f"{self._folder}/{trial.number:05d}").drop(keep_last=self._keeps(trial))
            if self._error is None:
                self._until = max(self._until, trial.finished or 0.0)

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
