"""One study's decisions, free of Ray: which trial is next, whether it goes on, when the study ends.

Ray's searcher and scheduler are thin adapters around this object, and anything else that can train (a test, a
benchmark in virtual time) drives it through the same five methods.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from hpo import space
from hpo.asha import Asha, RungDecision, rung_levels
from hpo.errors import InfrastructureError
from hpo.ledger import Ledger
from hpo.outcome import classify
from hpo.records import TrialRecord
from hpo.specification import Spec
from hpo.storage import storage_errors
from trainers.api import EpochMetrics, TrialConfig

HEARTBEAT_S = 30.0


@dataclass(frozen=True)
class Assignment:
    """A trial to be trained."""

    number: int
    seed: int
    config: TrialConfig


@dataclass(frozen=True)
class Event:
    """Something a person watching would want to see."""

    kind: Literal["started", "resumed", "epoch", "finished", "lost", "notice"]
    trial: TrialRecord | None = None
    text: str = ""


def derive_seed(study_seed: int, trial: int) -> int:
    """A trial's seed: a function of (study seed, trial number) alone, 63 bits."""
    digest = hashlib.sha256(f"{study_seed}/{trial}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_asha(spec: Spec) -> Asha | None:
    """The study's ASHA, None where it is switched off."""
    if not spec.asha.enabled:
        return None
    levels = rung_levels(spec.asha.grace_period, spec.asha.reduction_factor, spec.train.epochs)
    return Asha(levels, spec.asha.reduction_factor)


class Conductor:
    """Drives one open ledger.

    Infrastructure that breaks under a call (the database, the disk) is kept in `fatal` and stops the study:
    an exception thrown through Ray's event loop would be taken for the trial's own failure.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        listener: Callable[[Event], None] = lambda event: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = ledger
        self.spec = ledger.spec
        self.asha = make_asha(self.spec)
        self.stopping: str | None = None
        """Why nothing more is admitted and running trials end after their epoch, once that is so."""
        self.fatal: Exception | None = None
        self._listener = listener
        self._clock = clock
        self._beat = 0.0
        self._spent = ledger.study.seconds
        self._began = clock()
        self._base = self.spec.base()
        self._failures: dict[int, str] = {}
        self._queue = list(ledger.unfinished())
        for trial in ledger.trials:
            for decision in trial.rungs:
                if self.asha:
                    self.asha.restore(trial.number, decision)

    # ---------------------------------------------------------------------------------------- admission

    def next_trial(self) -> Assignment | None:
        """The next trial to train, unfinished ones first; None when no more will come."""
        with self._guarded():
            self._check_clock()
            if self.stopping is not None:
                return None
            if self._queue:
                trial = self.ledger.resume(self._queue.pop(0))
                self._tell("resumed", trial)
            elif sum(trial.started for trial in self.ledger.trials) < self.spec.budget.trials:
                trial = self.ledger.ask(
                    lambda asked: space.suggest(asked, self.spec.space),
                    lambda number: derive_seed(self.spec.seed, number),
                )
                self._tell("started", trial)
            else:
                return None
            return Assignment(trial.number, trial.seed or 0, space.configure(self._base, trial.values))
        return None

    def stop(self, reason: str) -> None:
        """Admit nothing more and interrupt running trials after their current epoch. Safe in a signal handler."""
        if self.stopping is None:
            self.stopping = reason

    # ------------------------------------------------------------------------------------------ results

    def on_epoch(self, number: int, metrics: EpochMetrics) -> bool:
        """Take one epoch's report; return whether the trial goes on."""
        with self._guarded():
            self._check_clock()
            known = self.ledger.trial(number)
            if known.outcome is not None:
                return False
            if metrics.epoch <= len(known.epochs):
                return True  # repeated after a resume; what followed from it is recorded already
            if metrics.epoch != len(known.epochs) + 1:
                self._finish(
                    number,
                    failure=f"the trainer reported epoch {metrics.epoch} after epoch {len(known.epochs)}",
                )
                return False
            if not math.isfinite(metrics.val_accuracy):
                self._finish(number, failure=f"the objective is {metrics.val_accuracy} after epoch {metrics.epoch}")
                return False
            decision = self._decide(number, metrics)
            trial = self.ledger.record(number, metrics, decision)
            self._tell("epoch", trial)
            if trial.pruned_at is not None:
                self._finish(number, pruned_at=trial.pruned_at)
            elif metrics.epoch >= self.spec.train.epochs or self.stopping is not None:
                self._finish(number)
            return self.ledger.trial(number).outcome is None
        return False

    def _decide(self, number: int, metrics: EpochMetrics) -> RungDecision | None:
        if self.asha is None or metrics.epoch >= self.spec.train.epochs:
            return None
        resource = float(metrics.epoch)
        if self.spec.asha.resource == "compute" and metrics.compute is not None:
            resource = metrics.compute
        return self.asha.decide(number, resource, metrics.val_accuracy)

    def on_failure(self, number: int, reason: str) -> None:
        """The trainer itself failed: recorded as such, never retried, the study goes on."""
        with self._guarded():
            if self.ledger.trial(number).outcome is None:
                self._finish(number, failure=reason)

    def on_lost(self, number: int, reason: str) -> None:
        """The trial's worker or node died; `on_retry` or `on_given_up` follows."""
        self._failures[number] = reason

    def on_retry(self, number: int) -> None:
        """A lost trial begins again from its last checkpoint."""
        with self._guarded():
            if self.ledger.trial(number).outcome is None:
                self._tell("lost", self.ledger.retry(number, self._failures.get(number, "worker died")))

    def on_given_up(self, number: int) -> None:
        """A lost trial is not retried any more."""
        attempts = len(self.ledger.trial(number).attempts)
        lost = self._failures.get(number, "worker died")
        self.on_failure(number, f"lost its worker {attempts} times; the last time: {lost}")

    def on_placed(self, number: int, host: str, device: str, pid: int) -> None:
        """Where a trial runs, once known."""
        with self._guarded():
            if self.ledger.trial(number).outcome is None:
                self.ledger.place(number, host, device, pid)

    def close(self) -> None:
        """End of this driver: no trial stays RUNNING.

        Raises:
            InfrastructureError: the ledger or the disk failed during the study or now.
        """
        with self._guarded():
            self.ledger.close()
        if self.fatal is not None:
            raise InfrastructureError(f"the study stopped: {self.fatal}") from self.fatal

    # ------------------------------------------------------------------------------------------ helpers

    def _finish(self, number: int, *, failure: str | None = None, pruned_at: float | None = None) -> None:
        trial = self.ledger.trial(number)
        outcome = classify(
            epochs=len(trial.epochs),
            horizon=self.spec.train.epochs,
            value=trial.value,
            failure=failure,
            pruned_at=pruned_at,
        )
        self._tell("finished", self.ledger.finish(number, outcome))

    def _check_clock(self) -> None:
        now = self._clock()
        if now - self._beat > HEARTBEAT_S:
            self._beat = now
            self.ledger.heartbeat()
        hours = self.spec.budget.hours
        if hours is not None and self._spent + now - self._began > hours * 3600:
            self.stop(f"the budget of {hours:g} hours is used up")

    def _tell(self, kind: Literal["started", "resumed", "epoch", "finished", "lost"], trial: TrialRecord) -> None:
        self._listener(Event(kind, trial))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except storage_errors() as error:
            self.fatal = self.fatal or error
            self.stop(f"the ledger or the disk failed: {error}")
