"""The work of the process that talks to MLflow: it keeps a `Mirror` current with what the driver sends."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from hpo.errors import HpoError, InfrastructureError
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import as_reason
from hpo.text import first_line
from hpo.tracking.mirror import Mirror
from hpo.tracking.periodic import Periodic
from hpo.tracking.plots import Plots
from hpo.tracking.preflight import check_tracking, load
from hpo.tracking.process.messages import (
    Begin,
    Changes,
    Check,
    Checked,
    End,
    Ended,
    Load,
    Progress,
    Respecified,
    Taken,
)
from hpo.tracking.study_content import study_status
from hpo.tracking.system_metrics import INTERVAL_S as SYSTEM_INTERVAL_S
from hpo.tracking.system_metrics import SystemMonitor

SYNC_INTERVAL_S = 1.0
STUDY_INTERVAL_S = 5.0
PLOTS_INTERVAL_S = 60.0
REPORT_INTERVAL_S = 0.5
"""The driver is told so often what MLflow has taken while there is a backlog."""


def serve(connection: Connection[Any, Any], orphaned: Callable[[], None]) -> None:
    """Answer the driver until the study has ended.

    Args:
        orphaned: called in a thread once the driver is gone.
    """
    try:
        while isinstance(message := connection.recv(), Load | Check):
            if isinstance(message, Load):
                with suppress(Exception):  # `Check` finds the same, and there is an answer to it
                    load(message.uri)
            else:
                connection.send(Checked(_refusal(message)))
    except EOFError:
        return
    writer = Writer(message, connection.send)
    threading.Thread(target=writer.listen, args=(connection.recv, orphaned), name="driver", daemon=True).start()
    writer.work()


def _refusal(asked: Check) -> HpoError | None:
    """Why MLflow cannot take the study; None if it can."""
    try:
        check_tracking(asked.spec, asked.home)
    except HpoError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the driver must get an answer
        reason = first_line(as_reason(f"{type(error).__name__}: {error}"))
        return InfrastructureError(f"MLflow cannot be used: {reason}; set tracking.enabled=false to run without MLflow")
    return None


class Writer:
    """Keeps a `Mirror` current while the study runs. One thread listens to the driver, another talks to MLflow."""

    def __init__(self, begin: Begin, tell: Callable[[Progress | Ended], None]) -> None:
        """`tell` sends a message to the driver."""
        self._begin, self._tell = begin, tell
        self._lock = threading.Lock()
        """Guards the two attributes below."""
        self._newest: dict[int, TrialRecord] = {}
        self._unsent: dict[int, int] = {}
        """The batch that brought the newest record of each trial that MLflow lacks."""
        self._batch: dict[int, TrialRecord] = {}
        """The part of a batch that has arrived."""
        self._known = threading.Event()
        """Set once all trials of the study have arrived."""
        self._closing = threading.Event()
        """Set once `_final` is."""
        self._final: StudyRecord | None = None
        self._shown: tuple[TrialRecord, ...] | None = ()
        """The trials that the study run was last updated with; None if the study itself has changed since."""
        self._plots = Plots(begin.figures) if begin.figures else None
        self._taken: list[Taken] = []
        """What the driver has not been told yet."""
        self._told = time.monotonic()
        self._trouble: str | None = None
        """What the driver was told last."""

    # ---------------------------------------------------------------------- the thread that listens

    def listen(self, receive: Callable[[], Changes | Respecified | End], orphaned: Callable[[], None]) -> None:
        """Take what the driver sends, and never let it wait."""
        try:
            while True:
                self.take(receive())
        except (EOFError, OSError):
            orphaned()

    def take(self, message: Changes | Respecified | End) -> None:
        """Take one message."""
        if isinstance(message, End):
            self._final = message.study
            self._closing.set()
            return
        if isinstance(message, Respecified):
            self._begin, self._shown = dataclasses.replace(self._begin, study=message.study), None
            return
        for known, trial in message.trials:
            before = self._newest[trial.number].epochs[:known] if known else ()
            self._batch[trial.number] = dataclasses.replace(trial, epochs=before + trial.epochs)
        if message.whole:
            with self._lock:
                self._newest |= self._batch
                self._unsent |= dict.fromkeys(self._batch, message.batch)
            self._batch = {}
            self._known.set()

    # ------------------------------------------------------------------- the thread that talks to MLflow

    def work(self) -> None:
        """Start again after an outage of any kind, for as long as the study runs and once more after that."""
        self._known.wait()  # the first lines of a study run would be wrong without a trial
        while True:
            last = self._closing.is_set()
            try:
                # What the old mirror knew of the server may be wrong by now, so each try makes a new one.
                mirror = Mirror(self._current(), self._begin.home)
                self._follow(mirror)
                notice = self._finish(mirror)
            except Exception as error:  # noqa: BLE001 - shown when the study ends; it must never end training
                self._report(first_line(as_reason(str(error))) or type(error).__name__)
                if last:
                    self._tell(Ended(self._trouble))
                    return
                time.sleep(SYNC_INTERVAL_S)
            else:
                self._tell(Ended(None, notice))
                return

    def _follow(self, mirror: Mirror) -> None:
        """Keep the mirror current until the study has ended."""
        mirror.begin()
        jobs = self._jobs(mirror)
        while True:
            closing = self._closing.is_set()
            self._send(mirror)
            if closing:
                return
            for job in jobs:
                job.poll()
            self._report(None)
            self._closing.wait(SYNC_INTERVAL_S)

    def _jobs(self, mirror: Mirror) -> list[Periodic]:
        jobs = [Periodic(STUDY_INTERVAL_S, partial(self._show, mirror))]
        if self._plots:
            jobs.append(Periodic(PLOTS_INTERVAL_S, partial(self._draw, mirror, self._plots), delay=PLOTS_INTERVAL_S))
        if self._begin.system_metrics:
            jobs.append(Periodic(SYSTEM_INTERVAL_S, partial(self._sample, mirror, SystemMonitor())))
        return jobs

    def _finish(self, mirror: Mirror) -> str | None:
        """Show how the study has ended; returns what a person must know of files and plots."""
        study = self._current()
        trouble = mirror.finish(study)
        self._report(None)
        if self._plots and study_status(study) != "SCHEDULED":  # a study that was interrupted must end quickly
            self._plots.update(mirror.study_run, study)
        if trouble is None and self._plots and self._plots.failure:
            return f"MLflow has no plots of this study: {as_reason(self._plots.failure)}"
        return trouble

    def _current(self) -> StudyRecord:
        with self._lock:
            trials = tuple(self._newest[number] for number in sorted(self._newest))
        return dataclasses.replace(self._final or self._begin.study, trials=trials)

    def _show(self, mirror: Mirror) -> None:
        study = self._current()
        if study.trials != self._shown:
            self._shown = study.trials  # before the update: the other thread may reset it meanwhile
            mirror.study_run.update(study)

    def _draw(self, mirror: Mirror, plots: Plots) -> None:
        plots.update(mirror.study_run, self._current())

    def _sample(self, mirror: Mirror, monitor: SystemMonitor) -> None:
        mirror.study_run.sample(monitor.sample(), self._begin.study, self._begin.clock.now())

    def _send(self, mirror: Mirror) -> None:
        """Send the newest record of every trial that has changed."""
        while True:
            with self._lock:
                if not self._unsent:
                    return
                number, batch = next(iter(self._unsent.items()))
                trial = self._newest[number]
            mirror.sync(trial)
            with self._lock:
                if self._unsent[number] == batch:
                    del self._unsent[number]
            self._taken.append(Taken(number, batch, mirror.runs.get(number)))
            if time.monotonic() - self._told > REPORT_INTERVAL_S:
                self._report(None)

    def _report(self, trouble: str | None) -> None:
        """Tell the driver what is new, and that MLflow answers or why not."""
        self._tell(Progress(tuple(self._taken), trouble))
        self._taken, self._trouble, self._told = [], trouble, time.monotonic()
