"""`hpo status --watch`: follow a study through its ledger, from any terminal, with or without a running driver."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from hpo.api.plain_view import PlainView
from hpo.cli.display.screen import Screen
from hpo.cli.display.terminal.painter import Painter, interactive
from hpo.cli.display.terminal.steady import Steady
from hpo.driver.events import Event
from hpo.home import Home
from hpo.ledger.reader import Follower, open_existing
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.progress import progress
from hpo.results.sums.study import Sums

INTERVAL_S = 2.0
"""Least time between two readings of the ledger."""
READING_SHARE = 0.03
"""Greatest share of a core that reading takes: the ledger of a large study is read less often."""


def watch(home: Home, name: str, interval: float = INTERVAL_S) -> None:
    """Show a study until it ends: a live view on a terminal, otherwise one plain line per event.

    A study that has already ended is shown once. Ctrl-C stops watching.

    Raises:
        UsageError: there is no such study.
    """
    readings = _readings(home, name, interval)
    first = next(readings)
    if interactive(sys.stdout):
        _paint(home, first, readings)
    else:
        _print(home, itertools.chain([first], readings))


@dataclass(frozen=True)
class Reading:
    """A study as recorded."""

    study: StudyRecord
    changed: float
    """When the record was first seen like this, by the monotonic clock of this process."""

    @property
    def silent(self) -> float:
        """Seconds since the record changed. The driver's stamps do not tell: its clock may be another."""
        return time.monotonic() - self.changed


def _readings(home: Home, name: str, interval: float) -> Iterator[Reading]:
    """The study as recorded now, again and again until it ends."""
    follower = Follower(open_existing(home, name), name)
    reading: Reading | None = None
    again = False
    while True:
        began = time.thread_time()
        study = follower.read()
        if reading is None or study != reading.study:
            reading = Reading(study, time.monotonic())
        yield reading
        if progress(study, reading.silent).over:
            return
        looked = time.thread_time() - began if again else 0.0  # the first look alone reads everything
        again = True
        time.sleep(max(interval, looked / READING_SHARE))


def _paint(home: Home, first: Reading, readings: Iterator[Reading]) -> None:
    shown, sums, steady = first, Sums(first.study.spec), Steady()
    summed: Reading | None = None

    def screen() -> Screen:
        nonlocal summed
        if (reading := shown) is not summed:
            sums.update(*reading.study.trials)
            summed = reading
        return Screen(reading.study, home, reading.silent, steady=steady, sums=sums)

    with Painter(screen, sys.stdout) as painter:
        for shown in readings:  # noqa: B007 - the painter reads it
            painter.paint()
            if painter.failure is not None:
                break
    if painter.failure is not None:
        raise painter.failure


def _print(home: Home, readings: Iterator[Reading]) -> None:
    view = PlainView(sys.stdout)
    before: StudyRecord | None = None
    said = ("running", False)
    for reading in readings:
        if before is None:
            view.begin(reading.study)
        for event in events(before, reading.study):
            view(event)
        now = progress(reading.study, reading.silent)
        if said != (said := (now.state, now.stopping is not None)):
            again = f"; continue with: {home.command(f'resume {reading.study.name}')}" if now.resumable else ""
            view(Event("notice", text=f"{now.words}{again}"))
        before = reading.study


def events(before: StudyRecord | None, after: StudyRecord) -> list[Event]:
    """The events between two readings, trial by trial. Several epochs of a trial give one event, for the newest.

    Without an earlier reading, every trial gives one event, for its newest change.
    """
    if before is None:
        return [event for trial in after.trials for event in list(_changes(None, trial))[-1:]]
    earlier = {trial.number: trial for trial in before.trials}
    changed = (trial for trial in after.trials if trial is not earlier.get(trial.number))
    return [event for trial in changed for event in _changes(earlier.get(trial.number), trial)]


def _changes(before: TrialRecord | None, after: TrialRecord) -> Iterator[Event]:
    attempts = len(before.attempts) if before else 0
    if _losses(after) > _losses(before) and after.outcome is None:
        yield Event("lost", after)
    if len(after.attempts) > attempts:
        yield Event("resumed" if len(after.attempts) > 1 else "started", after)
    if len(after.epochs) > (len(before.epochs) if before else 0):
        yield Event("epoch", after)
    if after.outcome is not None and after.outcome != (before.outcome if before else None):
        let_go = before is not None and before.kept and after.status == "pruned"  # else it was taken up, or stopped
        yield Event("let_go" if let_go else "finished", after)


def _losses(trial: TrialRecord | None) -> int:
    return sum(attempt.lost is not None for attempt in trial.attempts) if trial else 0
