"""MLflow as a view of the ledger, kept up to date by a process beside the driver.

No file holds records that still have to be sent. The ledger is that file: a record is on disk before MLflow gets it,
and whatever MLflow lacks follows from the ledger. A second file could be half-written after a crash, or disagree with
the ledger. So the same `Mirror.sync` brings MLflow up to date after an outage, a crash or a resume, and repeating it
changes nothing. Training never waits for MLflow: the driver leaves the newest record of a trial here and continues. A
thread sends the newest records to the process, once a second and each epoch once. If the process dies, another one
gets all of them again.
"""

from __future__ import annotations

import dataclasses
import threading
import time

from hpo.clock import Clock
from hpo.home import Home
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import as_reason
from hpo.text import first_line
from hpo.tracking.mirror import same_content
from hpo.tracking.process.child import Child
from hpo.tracking.process.messages import Begin, Change, Changes, End, Ended, Figures, Progress, Respecified

SEND_INTERVAL_S = 1.0
TRIALS_PER_MESSAGE = 100
"""Making a message holds the driver's interpreter for about 30 ms per 100 trials of 50 epochs."""
LONGEST_PAUSE_S = 300.0
"""Before the first restart of the process is a pause of a second; it doubles up to this one."""
CLOSE_TIMEOUT_S, CLOSE_LIMIT_S = 30.0, 300.0
"""How long `Tracker.close` waits for MLflow to take the next record, and for all of them together."""


class Tracker:
    """Passes a study's records to the process that writes them to MLflow."""

    def __init__(
        self,
        study: StudyRecord,
        home: Home,
        child: Child | None = None,
        *,
        figures: Figures | None = None,
        system_metrics: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._home, self._child = home, child or Child()
        begins = dataclasses.replace(study, trials=())
        self._begin = Begin(begins, home, figures, system_metrics, clock or Clock())
        self._lock = threading.Lock()
        """Guards the seven attributes below."""
        self._newest: dict[int, TrialRecord] = {trial.number: trial for trial in study.trials}
        self._unsent = set(self._newest)
        self._behind = {trial.number for trial in study.trials if trial.started}
        self._links: dict[int, str] = {trial.number: trial.mlflow_run_id or "" for trial in study.trials}
        self._new_links: dict[int, str] = {}
        self._respecified = False
        """Whether the process has still to be told of another specification."""
        self._trouble: str | None = None
        """Why MLflow takes nothing at present; None while it does."""
        self._sent: dict[int, tuple[int, TrialRecord]] = {}
        """The batch and the record that the process got last, by trial."""
        self._batch = 0
        self._steps = 0
        """Grows while MLflow takes records."""
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._final = begins
        """The study without its trials; as it ended once `_closing` is set."""
        self._ended: Ended | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    @classmethod
    def start(
        cls,
        study: StudyRecord,
        home: Home,
        child: Child | None = None,
        *,
        figures: Figures | None = None,
        system_metrics: bool = False,
        clock: Clock | None = None,
    ) -> Tracker:
        """Begin to send; call `check_tracking` or `Child.ask` first. Without `figures` there are no plots.

        Args:
            child: the process; without one, another is started.
            clock: of the study's driver.
        """
        tracker = cls(study, home, child, figures=figures, system_metrics=system_metrics, clock=clock)
        tracker._thread.start()
        return tracker

    def update(self, trial: TrialRecord) -> None:
        """Leave a trial's newest record; returns at once. One that says nothing new costs no call."""
        with self._lock:
            before, self._newest[trial.number] = self._newest.get(trial.number), trial
            if before is None or not same_content(before, trial):
                self._unsent.add(trial.number)
                if trial.started:
                    self._behind.add(trial.number)

    def respecify(self, study: StudyRecord) -> None:
        """The specification of the study has changed; returns at once."""
        with self._lock:
            self._begin = dataclasses.replace(self._begin, study=dataclasses.replace(study, trials=()))
            self._respecified = True

    @property
    def behind(self) -> int:
        """Number of trials whose newest record MLflow has not taken yet."""
        with self._lock:
            return len(self._behind)

    def linked(self) -> list[tuple[int, str]]:
        """The pairs of trial and run id that are new since the last call, for the ledger."""
        with self._lock:
            new, self._new_links = self._new_links, {}
        return list(new.items())

    def close(self, study: StudyRecord) -> str | None:
        """Send the rest and end the process; returns a message for the person if MLflow did not take everything.

        Waits as long as MLflow takes records, at most `CLOSE_TIMEOUT_S` for each and `CLOSE_LIMIT_S` for all of them.
        """
        for trial in study.trials:
            self.update(trial)
        self._final = dataclasses.replace(study, trials=())
        self._closing.set()
        steps, limit = -1, time.monotonic() + CLOSE_LIMIT_S
        while self._thread.is_alive() and steps < self._steps and (left := limit - time.monotonic()) > 0:
            steps = self._steps
            self._thread.join(min(CLOSE_TIMEOUT_S, left))
        if self._thread.is_alive():
            self._given_up.set()
            self._child.kill()
            self._thread.join(CLOSE_TIMEOUT_S)
        self._child.close()
        if self._ended is None or self._ended.trouble:
            trouble = self._ended.trouble if self._ended else self._trouble
            reason = f": {trouble}" if trouble else ""
            behind = f" ({self.behind:,} trials are missing or out of date)" if self.behind > 1 else ""
            return (
                f"MLflow does not have everything yet{behind}{reason}. Nothing is lost: the ledger has it. "
                f"Write the rest with: {self._home.command(f'doctor {study.name}')}"
            )
        return self._ended.notice

    # ------------------------------------------------------------------------------------- the thread

    def _work(self) -> None:
        """Keep a process fed, for as long as the study runs and once more after that."""
        pause = SEND_INTERVAL_S
        while True:
            last = self._closing.is_set()
            try:
                self._ended = self._serve()
                return
            except Exception as error:  # noqa: BLE001 - shown when the study ends; it must never end training
                if self._given_up.is_set() or self._child.closed:
                    return
                self._trouble = self._fate(error)
            if last:
                return
            self._closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            self._forget()

    def _serve(self) -> Ended:
        """Send everything to a process that knows nothing yet, then what changes until the study has ended."""
        self._child.send(self._begin)
        self._send()
        while not self._closing.wait(SEND_INTERVAL_S):
            if self._respecified:
                self._respecified = False
                self._child.send(Respecified(self._begin.study))
            if self._unsent:
                self._send()
            while self._child.has_answered:
                self._hear(self._child.receive())
        self._send()
        self._child.send(End(self._final))
        while not isinstance(answer := self._child.receive(), Ended):
            self._hear(answer)
        return answer

    def _send(self) -> None:
        """Send the newest record of every trial that has changed."""
        with self._lock:
            trials = [self._newest[number] for number in sorted(self._unsent)]
            self._unsent.clear()
        self._batch += 1
        for start in range(0, max(1, len(trials)), TRIALS_PER_MESSAGE):
            part = tuple(map(self._change, trials[start : start + TRIALS_PER_MESSAGE]))
            self._child.send(Changes(self._batch, part, start + TRIALS_PER_MESSAGE >= len(trials)))

    def _change(self, trial: TrialRecord) -> Change:
        """What the process does not know of a trial."""
        _, before = self._sent.get(trial.number, (0, None))
        known = len(before.epochs) if before else 0
        if before and trial.epochs[:known] != before.epochs:
            known = 0
        self._sent[trial.number] = self._batch, trial
        return Change(known, dataclasses.replace(trial, epochs=trial.epochs[known:]))

    def _hear(self, progress: Progress) -> None:
        """Note what MLflow has taken."""
        with self._lock:
            self._trouble = progress.trouble
            self._steps += progress.trouble is None
            for number, batch, run in progress.taken:
                if number not in self._unsent and self._sent[number][0] == batch:
                    self._behind.discard(number)
                if run is not None and self._links.get(number) != run:
                    self._links[number] = self._new_links[number] = run

    def _fate(self, error: Exception) -> str:
        """What has become of the process, or of what it was to be told; the process is gone after that."""
        fate = self._child.bury(error)
        return fate if isinstance(error, EOFError | OSError) else first_line(as_reason(f"{error!r}"))

    def _forget(self) -> None:
        """Begin anew: the next process knows nothing."""
        self._sent.clear()
        with self._lock:
            self._unsent |= self._newest.keys()
