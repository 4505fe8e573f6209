"""Watches, while a study runs, for the part of its budget that ends it."""

from __future__ import annotations

import functools
import math
import re

from hpo.driver.decisions.patience import Foresee, Patience
from hpo.driver.decisions.stopping import reached, same_failures
from hpo.driver.decisions.tally import Tally
from hpo.driver.events import Announcer
from hpo.ledger.records import TrialRecord
from hpo.ledger.writer import Ledger
from hpo.spec.study import Spec
from hpo.text import first_line


class Ending:
    """Why a running study ends. The first reason counts; it is recorded and told."""

    def __init__(self, ledger: Ledger, announce: Announcer, tally: Tally, foresee: Foresee) -> None:
        self.reason: str | None = None
        """Which part of the budget is reached; None before that."""
        self._ledger = ledger
        self._announce = announce
        self._tally = tally
        self._foresee = foresee
        self._resting = False
        self._patience: Patience | None = None
        self._begin_patience()
        self._began = ledger.clock.now() - ledger.study.seconds
        """When the study would have begun if its drivers had worked on it without a pause."""
        self._first_failures: list[str] | None = []
        """How the trials of this driver failed, as long as no trial has reported an epoch; None after that."""
        ledger.end(None)

    def revise(self, before: Spec) -> None:
        """The specification has changed: what ended the study may no longer be reached, or something else may be.

        Args:
            before: the specification until now.
        """
        budget, now = before.budget, self._ledger.spec.budget
        if (budget.patience, budget.min_gain_per_gpu_hour) != (now.patience, now.min_gain_per_gpu_hour):
            self._begin_patience()
        setting = (self.reason or "").partition(":")[0]
        if self.reason is not None and _value(before, setting) != _value(self._ledger.spec, setting):
            self.reason = None
            self._ledger.end(None)
        self.check_budget()

    def _begin_patience(self) -> None:
        budget = self._ledger.spec.budget
        if self._patience is not None:
            self._patience.close(wait=False)
        asked = budget.patience is not None or budget.min_gain_per_gpu_hour is not None
        self._patience = Patience(self._ledger.study, self._foresee) if asked else None

    def rest(self, resting: bool) -> None:
        """While the driver rests, its time does not count."""
        self._resting = resting
        self._began = self._ledger.clock.now() - self._ledger.study.seconds

    def left(self, gpus: float) -> float:
        """Seconds until a part of the budget is reached; infinite without a budget of time.

        Args:
            gpus: that trials hold from now on.
        """
        budget, now = self._ledger.spec.budget, self._ledger.clock.now()
        hours = math.inf if budget.hours is None else budget.hours * 3600 - (now - self._began)
        if budget.gpu_hours is None or not gpus:
            return hours
        return min(hours, (budget.gpu_hours - self._tally.gpu_hours(now)) * 3600 / gpus)

    def check_budget(self) -> None:
        """Call this when a trial has trained, and every second or so where the budget is one of time."""
        if self.reason is None and not self._resting:
            now = self._ledger.clock.now()
            seconds, charged = now - self._began, functools.partial(self._tally.gpu_hours, now)
            self._end(reached(self._ledger.spec, seconds, charged, self._tally.best))

    def notice_complete(self, trial: TrialRecord) -> None:
        """A trial is complete: think of what the study may still gain, in a thread."""
        if self._patience is not None:
            cost = self._tally.gpu_hours(self._ledger.clock.now()) / max(self._tally.started, 1)
            self._patience.notice(trial, cost)

    def check_patience(self, *, wait: bool = False) -> None:
        """Call this now and then: it reads what the thread has found out.

        Args:
            wait: whether to wait until the thread has thought of all complete trials.
        """
        if self._patience is not None and self.reason is None:
            self._end(self._patience.exhausted(wait=wait))

    def close(self) -> None:
        """The driver ends: hear what the thread has to say of the last trials."""
        if self._patience is not None:
            try:
                self.check_patience(wait=True)
            finally:
                self._patience.close()

    def check_first_failures(self, trial: TrialRecord, failure: str) -> None:
        """End the study if its first trials all fail in the same way before their first epoch: so will the others."""
        if self._first_failures is None:
            return
        if trial.epochs or self._tally.reported:
            self._first_failures = None
            return
        way = re.sub(r"[0-9]+", "0", first_line(failure))  # paths and sizes may hold a trial's number
        self._first_failures = [*self._first_failures, way] if way in self._first_failures else [way]
        limit = self._ledger.spec.stop_after_failures
        if limit and len(self._first_failures) >= limit and self.reason is None:
            self._end(same_failures(limit, first_line(failure)))

    def _end(self, reason: str | None) -> None:
        if reason is not None:
            self.reason = reason
            self._ledger.end(reason)
            self._announce.notice(
                f"Stopping: {reason.partition(': ')[2]}; running trials continue to their next "
                f"{self._ledger.spec.budget.when_reached}"
            )


def _value(spec: Spec, setting: str) -> object:
    """The value of a setting by its dotted path."""
    return functools.reduce(getattr, setting.split("."), spec)
