"""What people ask of a study while it runs: wait, end one trial, try this configuration, take another budget.

The thread that listens calls these methods; each holds the study for as long as a report does, whatever its size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from hpo.driver.calls import Calls
from hpo.driver.decisions.tally import Tally
from hpo.driver.events import Announcer
from hpo.errors import InfrastructureError, UsageError
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Pause, TrialRecord
from hpo.ledger.writer import Ledger
from hpo.search.ahead import Ahead
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec
from hpo.text import first_line

LOOK_S = 0.2
OVER = "the study is ending; resume it, and ask again"


class _End(Protocol):
    """What is needed of `hpo.driver.decisions.ending.Ending`."""

    reason: str | None

    def revise(self, before: Spec) -> None:
        """The specification has changed."""

    def rest(self, resting: bool) -> None:
        """Time does not count."""


class _Attempts(Protocol):
    """What is needed of `hpo.driver.decisions.attempts.Attempts`."""

    @property
    def any_running(self) -> bool:
        """Whether a trial has a worker or waits for one."""

    @property
    def any_waiting(self) -> bool:
        """Whether a trial waits to run again."""

    @property
    def count(self) -> int:
        """Number of the trials that have a worker or wait for one."""

    def is_running(self, number: int) -> bool:
        """Whether the trial has a worker or waits for one."""

    def end(self, number: int, outcome: Outcome) -> None:
        """The trial ends for good."""


class Steering:
    """The wishes of people, as far as the conductor has to know them."""

    def __init__(
        self,
        ledger: Ledger,
        calls: Calls,
        announce: Announcer,
        attempts: _Attempts,
        ending: _End,
        tally: Tally,
        ahead: Ahead | None,
    ) -> None:
        self._ledger = ledger
        self._calls = calls
        self._announce = announce
        self._attempts = attempts
        self._ending = ending
        self._tally = tally
        self._ahead = ahead
        self.paused = False
        """Whether no trial begins, and running ones are interrupted at their next checkpoint."""
        self.over: str | None = None
        """Why this driver takes no more wishes; None while it does."""
        self._stopped: set[int] = set()
        self._rested = False
        ledger.pause(None)  # a driver that died may have left it so

    # ------------------------------------------------------------------------------ what is asked

    def pause(self, by: str) -> str:
        """Begin no trial, interrupt running ones at their next checkpoint, and then hold no GPU; returns what follows.

        Raises:
            UsageError: the study ends already.
        """

        def act() -> str:
            if self._ending.reason is not None:
                raise UsageError(f"the study ends already: {self._ending.reason.partition(': ')[2]}")
            if not self.paused:
                self.paused = True
                self._ledger.pause(Pause(by, self._ledger.clock.now()))
                self._announce.study(self._ledger.study)
                self._announce.notice(f"paused by {by}; running trials continue to their next checkpoint")
            running = self._attempts.count
            trials = (
                "1 running trial continues to its" if running == 1 else f"{running} running trials continue to their"
            )
            return f"paused; {trials} next checkpoint" if running else "paused; no trial is running"

        return self._within(act)

    def go_on(self, by: str) -> str:
        """End the pause; returns what follows."""

        def act() -> str:
            if not self.paused:
                return "the study was not paused"
            self.paused = False
            self._ledger.pause(None)
            self._announce.study(self._ledger.study)
            self._announce.notice(f"continued by {by}")
            return "the study continues"

        return self._within(act)

    def stop_trial(self, number: int, by: str) -> str:
        """End one trial for good; returns what follows.

        Raises:
            UsageError: there is no such trial, it has not begun, or it has ended.
        """

        def act() -> str:
            trial = self._unfinished(number)
            if self._attempts.is_running(number):
                self._stopped.add(number)
            self._attempts.end(number, Outcome(Ending.STOPPED, f"stopped by {by} after epoch {len(trial.epochs)}"))
            return f"trial {number} is stopped after epoch {len(trial.epochs)} of {self._ledger.spec.train.epochs}"

        return self._within(act)

    def _unfinished(self, number: int) -> TrialRecord:
        if not 0 <= number < len(self._ledger.trials):
            raise UsageError(f"there is no trial {number}; trials: 0 to {len(self._ledger.trials) - 1}")
        trial = self._ledger.trial(number)
        if trial.outcome is not None and trial.outcome.final:
            raise UsageError(f"trial {number} has ended already: {trial.status}, {first_line(trial.outcome.reason)}")
        if not trial.started:
            raise UsageError(f"trial {number} has not begun; it can be stopped while it trains")
        return trial

    def add(self, values: Mapping[str, Choice], by: str, request: str) -> tuple[int, str]:
        """Try this configuration next; returns the number of its trial and what follows. A repeated call adds no other.

        Args:
            request: unique to what is asked for.
        """
        number = -1

        def act() -> str:
            nonlocal number
            number = self._ledger.enqueue(values, by, request)
            self._announce.notice(f"trial {number} was added by {by}")
            left = self._ledger.spec.budget.trials - self._tally.started
            remedy = "raise budget.trials" if self._ending.reason is None else "raise the budget"
            if left < 1 or self._ending.reason is not None:
                return f"trial {number} is enqueued, but the budget has no trial left: {remedy}"
            return f"trial {number} is enqueued and begins next"

        said = self._within(act)
        return number, said

    def revise(self, spec: Spec, by: str, change: str) -> str:
        """Continue with another specification, which `hpo.validation.revision` allows; returns what follows.

        Args:
            change: what was changed, as the person typed it.
        """

        def act() -> str:
            before = self._ledger.spec
            self._ledger.respecify(spec)
            if self._ahead is not None:
                self._ahead.limit = spec.budget.trials
            self._announce.study(self._ledger.study)
            self._announce.notice(f"{change} was set by {by}")
            self._ending.revise(before)
            if self._ending.reason is not None:
                return f"{change} is in force, and the study ends: {self._ending.reason.partition(': ')[2]}"
            return (
                f"{change} is in force" if spec != before else "nothing changes: the study has these settings already"
            )

        return self._within(act)

    def _within(self, act: Callable[[], str]) -> str:
        """Call `act` while nothing else happens in the study.

        Raises:
            UsageError: as `act`, or the driver is ending.
            InfrastructureError: the ledger failed, which has stopped the study.
        """
        refusal, said = UsageError(""), None
        with self._calls.one():
            try:
                if self.over is not None:
                    raise UsageError(self.over)
                said = act()
            except UsageError as error:
                refusal = error
        if said is None and self._calls.error is not None:
            raise InfrastructureError(f"the study stopped: {first_line(self._calls.error)}")
        if said is None:
            raise refusal
        return said

    # ------------------------------------------------------------------- what the driver reads of it

    def rest(self) -> bool:
        """Whether the study is paused and none of its trials trains any more; then call `wait`."""
        self._rested = self._rested or (self.paused and not self._attempts.any_running)
        return self._rested

    def wait(self, tick: Callable[[], None]) -> bool:
        """Wait for the end of the pause if the trials rest; returns whether they go on then.

        Args:
            tick: called several times a second.
        """
        rested, self._rested = self._rested, False
        if rested:
            self._count_time(False)
            while self.paused and self.over is None:
                time.sleep(LOOK_S)
                tick()
            self._count_time(True)
        return rested and self.over is None

    def _count_time(self, counts: bool) -> None:
        """Time in which no trial may train is no time of the study."""
        with self._calls.one():
            self._ledger.rest(not counts)
            self._ending.rest(not counts)
            self._announce.study(self._ledger.study)

    @property
    def waits(self) -> bool:
        """Whether trials may still begin though none trains: after a pause, on another node, or in a larger budget."""
        more = self._attempts.any_waiting or self._tally.started < self._ledger.spec.budget.trials
        return self._ending.reason is None and (self.paused or more)

    def may_rest(self, epoch: int, *, at_rung: bool) -> bool:
        """Whether a trial that could continue is interrupted here: the budget is reached, or the study is paused."""
        spec = self._ledger.spec
        if self.paused or (self._ending.reason is not None and spec.budget.when_reached == "checkpoint"):
            return epoch % spec.train.checkpoint_every == 0
        return self._ending.reason is not None and at_rung

    def take_stopped(self) -> frozenset[int]:
        """Numbers of the trials whose workers are still to be ended; each is returned once."""
        with self._calls.one():
            stopped, self._stopped = frozenset(self._stopped), set()
        return stopped
