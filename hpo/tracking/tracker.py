"""MLflow as a view of the ledger, kept up to date by a thread of the driver.

There is no spool of records to be sent, because the ledger is one: it is on disk before MLflow hears of anything,
it is complete, and whatever MLflow lacks can be computed from it at any time. A second file of pending records
would only be one more thing that a crash can leave half-written or at odds with the ledger. So after an outage, a
crash or a resume the same `Mirror.sync` brings MLflow up to date, and repeating it changes nothing. Training never
waits: the driver leaves its newest record of a trial here and goes on.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping

from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.text import first_line
from hpo.tracking.mirror import Mirror
from hpo.tracking.models import CHAMPION
from hpo.tracking.preflight import check_tracking
from hpo.tracking.study_run import Figures, drawn, study_status
from hpo.tracking.system_metrics import Sampler

SYNC_INTERVAL_S = 1.0
CLOSE_TIMEOUT_S = 30.0
"""How long `Tracker.close` waits for MLflow to take one more record; each one taken starts it anew."""
PAGE_INTERVAL_S = 5.0
DRAWING_INTERVAL_S = 60.0
IDLE_SECONDS_PER_SECOND = 20.0
"""The study's own run costs time that grows with the study; between two updates there are so many times it."""


class Tracker:
    """The thread that keeps a `Mirror` in line while the study runs."""

    def __init__(
        self, study: StudyRecord, home: Home, *, figures: Figures | None = None, system_metrics: bool = False
    ) -> None:
        self._study, self._home = study, home
        self._lock = threading.Lock()
        self._newest: dict[int, TrialRecord] = {trial.number: trial for trial in study.trials}
        self._dirty: dict[int, TrialRecord] = {trial.number: trial for trial in study.trials if trial.started}
        self._links: dict[int, str] = {trial.number: trial.mlflow_run_id or "" for trial in study.trials}
        self._new_links: dict[int, str] = {}
        self._artist = Artist(figures) if figures else None
        self._page_due = 0.0
        self._system_metrics = system_metrics
        self._sampler: Sampler | None = None
        self._closing = threading.Event()
        self._final: StudyRecord | None = None
        self._done = False
        self._progress = 0
        """Records that MLflow has taken."""
        self.trouble: Exception | None = None
        """What the newest call failed with, None while MLflow answers."""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    @classmethod
    def start(
        cls, study: StudyRecord, home: Home, *, figures: Figures | None = None, system_metrics: bool = False
    ) -> Tracker:
        """Begin; `check_tracking` has been called. Without `figures` there are no plots."""
        tracker = cls(study, home, figures=figures, system_metrics=system_metrics)
        tracker._thread.start()
        return tracker

    def update(self, trial: TrialRecord) -> None:
        """Leave a trial's newest record; returns at once."""
        with self._lock:
            self._newest[trial.number] = self._dirty[trial.number] = trial

    def linked(self) -> list[tuple[int, str]]:
        """The (trial, run id) pairs that are new since the last call, for the ledger."""
        with self._lock:
            new, self._new_links = self._new_links, {}
        return list(new.items())

    def close(self, study: StudyRecord) -> str | None:
        """Write what is left and end; return what a person must know if MLflow did not take everything.

        Waits as long as MLflow takes records, and at most `CLOSE_TIMEOUT_S` for each.
        """
        self._final = study
        self._closing.set()
        taken = -1
        while self._thread.is_alive() and taken < self._progress:
            taken = self._progress
            self._thread.join(CLOSE_TIMEOUT_S)
        if self._done:
            failed = self._artist.failure if self._artist else None
            return f"MLflow has no plots of this study: {redact(failed)}" if failed else None
        reason = f": {first_line(redact(str(self.trouble)))}" if self.trouble else ""
        return (
            f"MLflow has not got everything yet{reason}. Nothing is lost: the ledger has it; "
            f"`hpo doctor {study.name}` writes the rest"
        )

    def _work(self) -> None:
        mirror: Mirror | None = None
        changed = False
        while True:
            closing = self._closing.wait(SYNC_INTERVAL_S)
            try:
                if mirror is None:
                    mirror = Mirror(self._study, self._home)
                    mirror.begin()
                changed = self._drain(mirror) or changed
                if closing and self._final is not None:
                    mirror.finish(self._final)
                    self._progress += 1
                    self._draw(mirror, self._final)
                    self._done = True
                    return
                if changed and time.monotonic() >= self._page_due:
                    began = time.monotonic()
                    mirror.page.update(self._current())
                    self._page_due = next_due(began, PAGE_INTERVAL_S)
                    changed = False
                self._draw(mirror, None)
                self._sample(mirror)
                self.trouble = None
            except Exception as error:  # noqa: BLE001 - an outage of any kind is retried, shown, and never ends training
                self.trouble = error
                mirror = None  # what it knows of the server may be wrong by now
                if closing:
                    return
                time.sleep(SYNC_INTERVAL_S)

    def _current(self) -> StudyRecord:
        with self._lock:
            trials = tuple(self._newest[number] for number in sorted(self._newest))
        return dataclasses.replace(self._study, trials=trials)

    def _draw(self, mirror: Mirror, final: StudyRecord | None) -> None:
        """Plots, now and then; at the end for certain, unless the study was broken off: that must not take long."""
        if self._artist is None or (final is not None and study_status(final) == "SCHEDULED"):
            return
        if final is None and not self._artist.due():
            return
        study = final or self._current()
        images = self._artist.draw(study)
        if images:
            mirror.page.draw(study, images)

    def _sample(self, mirror: Mirror) -> None:
        if self._system_metrics:
            self._sampler = self._sampler or Sampler()
            if values := self._sampler.sample():
                mirror.page.sample(values, self._study, time.time())

    def _drain(self, mirror: Mirror) -> bool:
        """Send every trial that has a newer record; whether there was one."""
        changed = False
        while True:
            with self._lock:
                if not self._dirty:
                    return changed
                number = min(self._dirty)
                trial = self._dirty[number]
            mirror.sync(trial)
            changed = True
            with self._lock:
                self._progress += 1
                run = mirror.runs.get(number)
                if run is not None and self._links.get(number) != run:
                    self._links[number] = self._new_links[number] = run
                if self._dirty.get(number) is trial:
                    del self._dirty[number]


def next_due(began: float, interval: float) -> float:
    """When to do again what has just been done: never sooner than its cost allows."""
    now = time.monotonic()
    return now + max(interval, IDLE_SECONDS_PER_SECOND * (now - began))


class Artist:
    """Draws a running study at a bounded cost."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._due = time.monotonic() + DRAWING_INTERVAL_S
        self._drawn: str | None = None
        self.failure: str | None = None
        """Why nothing is drawn any more."""

    def due(self) -> bool:
        """Whether enough time has passed."""
        return time.monotonic() >= self._due

    def draw(self, study: StudyRecord) -> Mapping[str, bytes]:
        """The study's plots; none where nothing is new, or where drawing once failed."""
        if self.failure or self._drawn == drawn(study):
            return {}
        began = time.monotonic()
        try:
            images = self._figures(study)
        except Exception as error:  # noqa: BLE001 - a mistake in a plot is reported at the end and must not cost records
            self.failure = f"{type(error).__name__}: {error}"
            return {}
        self._due = next_due(began, DRAWING_INTERVAL_S)
        self._drawn = drawn(study)
        return images


def publish(home: Home, name: str) -> str:
    """Bring a study's retrainings and their models into MLflow; what a person should know of it. Nothing is lost
    where that fails: the ledger has them."""
    study = read_study(home, name)
    if not study.spec.tracking.enabled:
        return f"{name} is not tracked in MLflow (tracking.enabled is false)"
    try:
        check_tracking(study.spec, home)
        held = Mirror(study, home).models.sync(study)
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises, the training has succeeded
        reason = first_line(redact(str(error)))
        return f"warning: MLflow has not got the model yet: {reason}. `hpo doctor {name}` writes it"
    return f"in MLflow: models:/{name}@{CHAMPION}" if held else f"in MLflow: model {name}"
