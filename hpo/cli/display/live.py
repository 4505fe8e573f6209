"""The live view of a running study: the screen on the terminal, kept up to date by the driver's events."""

from __future__ import annotations

import dataclasses
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from rich.text import Text

from hpo.cli.display.painter import Painter, captured, interactive, last_line
from hpo.cli.display.plain import Listener, PlainView, describe
from hpo.cli.display.screen import Screen
from hpo.driver import signals
from hpo.driver.conductor import Event
from hpo.home import Home
from hpo.ledger.outcome import classify
from hpo.ledger.records import StudyRecord

SAME_SESSION_S = 5.0
"""A driver's own sign of life, given just before its view began, is at most this old."""


class LiveView:
    """Shows a study from when it is entered until it is left, with what other code prints kept in a log file.

    Where showing it fails, the reason is printed in full and plain lines go on: the study must not suffer.
    """

    def __init__(self, study: StudyRecord, log: Path) -> None:
        """
        Args:
            study: the study as recorded when this driver began.
            log: takes what libraries print meanwhile.
        """
        self.failure: Exception | None = None
        """What broke the view, if anything did."""
        self._study = study
        self._trials = {trial.number: trial for trial in study.trials}
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._stack = ExitStack()
        self._plain: PlainView | None = None
        now = time.time()
        *earlier, last = study.sessions or [(now, now)]
        mine = now - last[1] < SAME_SESSION_S
        self._earlier = tuple(earlier) if mine else study.sessions
        self._began = last[0] if mine else now

    def __enter__(self) -> LiveView:
        terminal = self._stack.enter_context(captured(self._log))
        self._stack.callback(setattr, signals, "terminal", signals.terminal)
        signals.terminal = terminal.fileno()
        self._painter = self._stack.enter_context(Painter(self._screen, terminal))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The driver is done: it has left no trial running, and said so to the ledger alone.
        horizon = self._study.spec.train.epochs
        self._trials = {
            number: dataclasses.replace(
                trial, outcome=classify(epochs=len(trial.epochs), horizon=horizon, value=trial.value)
            )
            if trial.status == "running"
            else trial
            for number, trial in self._trials.items()
        }
        self._stack.close()
        self._report_failure()
        if not self._log.stat().st_size:
            self._log.unlink()
        elif self._log.stat().st_size > self._log_start:
            print(f"What libraries printed meanwhile: {self._log}", file=sys.stderr)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if event.trial is not None:
            # A new mapping each time: the painting thread may be looking at the old one.
            self._trials = {**self._trials, event.trial.number: event.trial}
        if self._plain is None and self._painter.failure is None:
            if event.kind in ("lost", "notice"):
                self._painter.say(describe(event, self._study.spec.train.epochs))
            self._painter.paint()
        if self._painter.failure is not None:
            self._stack.close()
            self._report_failure()
            self._plain = self._plain or PlainView(self._study.spec)
            self._plain(event)

    def _screen(self) -> Screen:
        now = time.time()
        trials = self._trials
        study = dataclasses.replace(
            self._study,
            trials=tuple(trials[number] for number in sorted(trials)),
            sessions=(*self._earlier, (self._began, now)),
        )
        note = last_line(self._log, self._log_start)
        return Screen(study, now, notes=(Text.from_ansi(note).plain,) if note else ())

    def _report_failure(self) -> None:
        if self._painter.failure is not None and self.failure is None:
            self.failure = self._painter.failure
            traceback.print_exception(self.failure)
            print("The live view failed, as told above; the study goes on without it.", file=sys.stderr)


@contextmanager
def choose(home: Home, *, verbose: bool = False) -> Iterator[Callable[[StudyRecord], Listener]]:
    """Yields what makes the view of a study that has just been opened; the terminal is given back at the end.

    The live view where stderr is a terminal that can be painted on. Plain lines in a pipe, in CI, with TERM=dumb,
    and where the output of others was asked for (`verbose`), which a live view would keep off the terminal.
    """
    with ExitStack() as stack:

        def view(study: StudyRecord) -> Listener:
            if verbose or not interactive(sys.stderr):
                return PlainView(study.spec)
            return stack.enter_context(LiveView(study, home.study(study.name) / "driver.log"))

        yield view
