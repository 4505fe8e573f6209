"""`hpo status --watch`: a study followed from its ledger alone, from any terminal and while its driver runs or not."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator

from hpo.cli.display.painter import Painter, interactive
from hpo.cli.display.plain import PlainView
from hpo.cli.display.screen import Screen
from hpo.driver.events import Event
from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_existing
from hpo.results.progress import progress

INTERVAL_S = 2.0
"""Between two looks at the ledger, at least."""
READING_SHARE = 0.1
"""The ledger of a great study is read less often, so that reading takes no more than this share of the time."""


def watch(home: Home, name: str, interval: float = INTERVAL_S) -> None:
    """Show a study until it is over: a live view on a terminal, else one plain line per event.

    A study that is over already is shown once. Ctrl-C ends it.

    Raises:
        UsageError: there is no such study.
    """
    looks = _looks(home, name, interval)
    study = next(looks)
    if interactive(sys.stdout):
        _paint(study, looks)
    else:
        _print(study, looks)


def _looks(home: Home, name: str, interval: float) -> Iterator[StudyRecord]:
    """The study as it stands, again and again until it is over."""
    storage = open_existing(home, name)
    while True:
        began = time.monotonic()
        study = load_study(storage, name)
        yield study
        if progress(study, time.time()).over:
            return
        time.sleep(max(interval, (time.monotonic() - began) / READING_SHARE))


def _paint(study: StudyRecord, looks: Iterator[StudyRecord]) -> None:
    shown = study
    with Painter(lambda: Screen(shown, time.time()), sys.stdout) as painter:
        for shown in looks:  # noqa: B007 - the painter reads it
            painter.paint()
            if painter.failure is not None:
                break
    if painter.failure is not None:
        raise painter.failure


def _print(study: StudyRecord, looks: Iterator[StudyRecord]) -> None:
    view = PlainView(sys.stdout)
    view.begin(study)
    before: StudyRecord | None = None
    for look in itertools.chain([study], looks):
        for event in events(before, look):
            view(event)
        before = look


def events(before: StudyRecord | None, after: StudyRecord) -> list[Event]:
    """What the driver must have told between two looks, trial by trial; of many epochs only the newest.

    With nothing before, every trial is told as it stands, in one event.
    """
    if before is None:
        return [event for trial in after.trials for event in list(_changes(None, trial))[-1:]]
    known = {trial.number: trial for trial in before.trials}
    return [event for trial in after.trials for event in _changes(known.get(trial.number), trial)]


def _changes(before: TrialRecord | None, after: TrialRecord) -> Iterator[Event]:
    attempts = len(before.attempts) if before else 0
    if len(after.attempts) > attempts:
        lost = attempts and after.attempts[-2].lost is not None
        yield Event("lost" if lost else "resumed" if len(after.attempts) > 1 else "started", after)
    if len(after.epochs) > (len(before.epochs) if before else 0):
        yield Event("epoch", after)
    if after.outcome is not None and after.outcome != (before.outcome if before else None):
        yield Event("finished", after)
