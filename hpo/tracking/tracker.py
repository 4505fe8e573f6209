"""MLflow as a view of the ledger, kept up to date by a thread of the driver.

No file holds records that still have to be sent. The ledger is that file: a record is on disk before MLflow gets it,
and whatever MLflow lacks follows from the ledger. A second file could be half-written after a crash, or disagree with
the ledger. So the same `Mirror.sync` brings MLflow up to date after an outage, a crash or a resume, and repeating it
changes nothing. Training never waits for MLflow: the driver leaves the newest record of a trial here and continues.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from functools import partial

from hpo.clock import Clock
from hpo.home import Home
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import as_reason
from hpo.text import first_line
from hpo.tracking.mirror import Mirror, same_content
from hpo.tracking.periodic import Periodic
from hpo.tracking.plots import Figures, Plots
from hpo.tracking.study_content import study_status
from hpo.tracking.system_metrics import INTERVAL_S as SYSTEM_INTERVAL_S
from hpo.tracking.system_metrics import SystemMonitor

SYNC_INTERVAL_S = 1.0
STUDY_INTERVAL_S = 5.0
PLOTS_INTERVAL_S = 60.0
CLOSE_TIMEOUT_S, CLOSE_LIMIT_S = 30.0, 300.0
"""How long `Tracker.close` waits for MLflow to take the next record, and for all of them together."""


class Tracker:
    """The thread that keeps a `Mirror` current while the study runs."""

    def __init__(
        self,
        study: StudyRecord,
        home: Home,
        *,
        figures: Figures | None = None,
        system_metrics: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._study, self._home = study, home
        self._lock = threading.Lock()
        """Guards the four attributes below."""
        self._newest: dict[int, TrialRecord] = {trial.number: trial for trial in study.trials}
        self._unsent: dict[int, TrialRecord] = {trial.number: trial for trial in study.trials if trial.started}
        self._links: dict[int, str] = {trial.number: trial.mlflow_run_id or "" for trial in study.trials}
        self._new_links: dict[int, str] = {}
        self._shown: tuple[TrialRecord, ...] = ()
        """The trials that the study run was last updated with."""
        self._plots = Plots(figures) if figures else None
        self._system_metrics = system_metrics
        self._clock = clock or Clock()
        self._final: StudyRecord | None = None
        self._closing = threading.Event()
        """Set once `_final` is."""
        self._taken = 0
        """Number of records that MLflow has taken."""
        self._file_trouble: str | None = None
        """What a person must know of the files, at the end."""
        self._trouble: Exception | None = None
        """The error of the newest call; None while MLflow answers."""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    @classmethod
    def start(
        cls,
        study: StudyRecord,
        home: Home,
        *,
        figures: Figures | None = None,
        system_metrics: bool = False,
        clock: Clock | None = None,
    ) -> Tracker:
        """Start the thread; call `check_tracking` first. Without `figures` there are no plots.

        Args:
            clock: of the study's driver.
        """
        tracker = cls(study, home, figures=figures, system_metrics=system_metrics, clock=clock)
        tracker._thread.start()
        return tracker

    def update(self, trial: TrialRecord) -> None:
        """Leave a trial's newest record; returns at once. One that says nothing new costs no call."""
        with self._lock:
            before, self._newest[trial.number] = self._newest.get(trial.number), trial
            if trial.number in self._unsent or before is None or not same_content(before, trial):
                self._unsent[trial.number] = trial

    @property
    def behind(self) -> int:
        """Number of trials whose newest record MLflow has not taken yet."""
        with self._lock:
            return len(self._unsent)

    def linked(self) -> list[tuple[int, str]]:
        """The pairs of trial and run id that are new since the last call, for the ledger."""
        with self._lock:
            new, self._new_links = self._new_links, {}
        return list(new.items())

    def close(self, study: StudyRecord) -> str | None:
        """Send the rest and end the thread; returns a message for the person if MLflow did not take everything.

        Waits as long as MLflow takes records, at most `CLOSE_TIMEOUT_S` for each and `CLOSE_LIMIT_S` for all of them.
        """
        self._final = study
        self._closing.set()
        taken, limit = -1, time.monotonic() + CLOSE_LIMIT_S
        while self._thread.is_alive() and taken < self._taken and (left := limit - time.monotonic()) > 0:
            taken = self._taken
            self._thread.join(min(CLOSE_TIMEOUT_S, left))
        if self._thread.is_alive() or self._trouble:
            reason = f": {first_line(as_reason(str(self._trouble)))}" if self._trouble else ""
            behind = f" ({self.behind:,} trials are missing or out of date)" if self.behind > 1 else ""
            return (
                f"MLflow does not have everything yet{behind}{reason}. Nothing is lost: the ledger has it. "
                f"Write the rest with: {self._home.command(f'doctor {study.name}')}"
            )
        if self._file_trouble:
            return self._file_trouble
        if self._plots and self._plots.failure:
            return f"MLflow has no plots of this study: {as_reason(self._plots.failure)}"
        return None

    # ------------------------------------------------------------------------------------- the thread

    def _work(self) -> None:
        """Start again after an outage of any kind, for as long as the study runs and once more after that."""
        while True:
            last = self._closing.is_set()
            try:
                # What the old mirror knew of the server may be wrong by now, so each try makes a new one.
                self._follow(Mirror(self._current(), self._home))
                return
            except Exception as error:  # noqa: BLE001 - shown when the study ends; it must never end training
                self._trouble = error
                if last:
                    return
                time.sleep(SYNC_INTERVAL_S)

    def _follow(self, mirror: Mirror) -> None:
        """Keep the mirror current until the study is closed."""
        mirror.begin()
        jobs = self._jobs(mirror)
        while not self._closing.wait(SYNC_INTERVAL_S):
            self._send(mirror)
            for job in jobs:
                job.poll()
            self._trouble = None
        self._finish(mirror)
        self._trouble = None

    def _jobs(self, mirror: Mirror) -> list[Periodic]:
        jobs = [Periodic(STUDY_INTERVAL_S, partial(self._show, mirror))]
        if self._plots:
            jobs.append(Periodic(PLOTS_INTERVAL_S, partial(self._draw, mirror, self._plots), delay=PLOTS_INTERVAL_S))
        if self._system_metrics:
            jobs.append(Periodic(SYSTEM_INTERVAL_S, partial(self._sample, mirror, SystemMonitor())))
        return jobs

    def _finish(self, mirror: Mirror) -> None:
        assert self._final is not None  # set before `_closing` is
        self._send(mirror)
        self._file_trouble = mirror.finish(self._final)
        self._taken += 1
        if self._plots and study_status(self._final) != "SCHEDULED":  # a study that was interrupted must end quickly
            self._plots.update(mirror.study_run, self._final)

    def _current(self) -> StudyRecord:
        with self._lock:
            trials = tuple(self._newest[number] for number in sorted(self._newest))
        return dataclasses.replace(self._study, trials=trials)

    def _show(self, mirror: Mirror) -> None:
        study = self._current()
        if study.trials != self._shown:
            mirror.study_run.update(study)
            self._shown = study.trials

    def _draw(self, mirror: Mirror, plots: Plots) -> None:
        plots.update(mirror.study_run, self._current())

    def _sample(self, mirror: Mirror, monitor: SystemMonitor) -> None:
        mirror.study_run.sample(monitor.sample(), self._study, self._clock.now())

    def _send(self, mirror: Mirror) -> None:
        """Send the newest record of every trial that has changed."""
        while True:
            with self._lock:
                if not self._unsent:
                    return
                number, trial = next(iter(self._unsent.items()))
            mirror.sync(trial)
            with self._lock:
                self._taken += 1
                run = mirror.runs.get(number)
                if run is not None and self._links.get(number) != run:
                    self._links[number] = self._new_links[number] = run
                if self._unsent.get(number) is trial:
                    del self._unsent[number]
