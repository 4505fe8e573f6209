"""The live view of a running study: the screen on the terminal, kept up to date by the driver's events."""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from rich.text import Text

from hpo.api.plain_view import PlainView, describe
from hpo.cli.display.screen import Screen
from hpo.cli.display.terminal.output import captured, last_line, relayed
from hpo.cli.display.terminal.painter import Painter, interactive
from hpo.cli.display.terminal.steady import Steady
from hpo.clock import Clock
from hpo.driver.events import Event, View
from hpo.driver.signals import state
from hpo.home import Home
from hpo.ledger.outcome import classify
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.sums.study import Sums

LASTING = ("lost", "notice")
"""Events with a line of their own that stays, above the picture."""


class LiveView:
    """Shows a study from `begin` until the block ends. What other code prints meanwhile goes to a log file.

    If the view itself breaks, it prints the reason in full and shows plain lines from then on: the study must not
    suffer from it.
    """

    def __init__(self, home: Home) -> None:
        self.failure: Exception | None = None
        """The error that broke the view, if any."""
        self._home = home
        self._stack = ExitStack()
        self._plain: PlainConsole | None = None
        self._log: Path | None = None
        """The file of what libraries print, from `begin` on."""
        self._events: deque[Event] = deque()
        """What the thread that paints has not seen yet."""
        self._unsure: list[Event] = []
        """What is in no frame yet that was painted."""
        self._over = False
        self._steady = Steady()

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._plain is None:
            self._give_back()
        self._stack.__exit__(kind, error, trace)

    def begin(self, study: StudyRecord) -> None:
        """Take the terminal and paint the study, as recorded when this driver began."""
        self._study = study
        self._sums = Sums(study.spec, study.trials)
        self._clock = Clock()
        *self._earlier, (self._began, sign) = study.sessions or [(self._clock.now(),) * 2]
        self._clock.not_before(sign)  # the driver has just given it
        self._log = _log(self._home, study)
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self._stack.enter_context(self._painting())

    @contextmanager
    def _painting(self) -> Iterator[None]:
        """Keep the terminal for the view alone."""
        assert self._log is not None  # `begin` sets it
        with captured(self._log) as terminal, ExitStack() as stack:
            stack.enter_context(state.use_terminal(terminal.fileno()))
            self._painter = stack.enter_context(Painter(self._screen, terminal))
            yield
            self._over = True

    def __call__(self, event: Event) -> None:
        """Show one event soon; returns at once."""
        if self._plain is None and self._painter.failure is not None:
            self._give_back()
        if self._plain is not None:
            self._plain(event)
            return
        self._events.append(event)
        if event.kind in LASTING:
            self._painter.say(describe(event, self._study.spec.train.epochs))
        self._painter.paint()

    def _give_back(self) -> None:
        """Give the terminal back. If the view is broken, plain lines follow, first those of what it did not show."""
        self._stack.close()
        if self._log is None:
            return
        printed = self._log.stat().st_size > self._log_start
        self.failure = self._painter.failure
        if self.failure is not None:
            self._plain = self._stack.enter_context(PlainConsole(self._home))
            self._plain.begin(self._study)
            traceback.print_exception(self.failure)
            print("The live view failed with the error above; the study continues without it.", file=sys.stderr)
        elif not self._log.stat().st_size:
            self._log.unlink()
        if printed:
            print(f"Output of libraries during the run: {self._log}", file=sys.stderr)
        if self._plain is not None:
            for event in (*self._unsure, *self._events):
                if event.kind not in LASTING:
                    self._plain(event)

    def _screen(self) -> Screen:
        """The newest state. The thread that paints calls this; after its end, who closes the view."""
        self._unsure.clear()
        while self._events:
            self._unsure.append(event := self._events.popleft())
            if event.trial is not None:
                self._sums.update(event.trial)
            if event.study is not None:
                self._study = dataclasses.replace(event.study, trials=self._study.trials)
                *self._earlier, (self._began, _) = event.study.sessions
        if self._over:
            self._sums.update(*map(self._stopped, self._sums.running))
        study = dataclasses.replace(self._study, driver="open")
        if not study.paused:  # a pause is no time of the study
            study = dataclasses.replace(study, sessions=(*self._earlier, (self._began, self._clock.now())))
        assert self._log is not None  # nothing is painted before `begin`
        note = last_line(self._log, self._log_start)
        notes = (Text.from_ansi(note).plain,) if note else ()
        return Screen(study, self._home, notes=notes, steady=self._steady, leaving=self._over, sums=self._sums)

    def _stopped(self, trial: TrialRecord) -> TrialRecord:
        """A running trial as ended: the driver has stopped it and told only the ledger."""
        horizon = self._study.spec.train.epochs
        outcome = classify(epochs=len(trial.epochs), horizon=horizon, value=trial.value)
        return dataclasses.replace(trial, outcome=outcome)


class PlainConsole:
    """Prints a line on stderr per event from `begin` until the block ends, between what libraries print.

    A thread passes everything on, so a reader that stands still, or has gone, stops nothing.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stack = ExitStack()
        self._view = PlainView()

    def __enter__(self) -> PlainConsole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def begin(self, study: StudyRecord) -> None:
        """Start the clock, and take over what is printed."""
        self._stack.enter_context(relayed(_log(self._home, study)))
        self._view.begin(study)

    def __call__(self, event: Event) -> None:
        """Print one event; returns at once."""
        self._view(event)


def _log(home: Home, study: StudyRecord) -> Path:
    """The file of what is printed during a run."""
    return home.study(study.name) / "driver.log"


def console_view(home: Home, *, verbose: bool = False) -> AbstractContextManager[View]:
    """The view that suits stderr. The terminal is given back when the block ends.

    A live view if stderr is a terminal that can be painted on. Plain lines in a pipe, in CI, with TERM=dumb, and with
    `verbose`, which asks for the output of libraries that a live view would keep off the terminal.
    """
    if verbose or not interactive(sys.stderr):
        return PlainConsole(home)
    return LiveView(home)
