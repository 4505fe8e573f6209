"""One study's decisions, free of Ray: which trial is next, whether it goes on, when the study ends.

Ray's searcher and scheduler are thin adapters around this object, and anything else that can train (a test, a
benchmark in virtual time) drives it through the same five methods.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hpo.driver.stopping import Patience, reached
from hpo.errors import InfrastructureError
from hpo.ledger.outcome import classify
from hpo.ledger.records import RungDecision, TrialRecord
from hpo.ledger.storage import storage_errors
from hpo.ledger.writer import Ledger
from hpo.redact import redact
from hpo.search.rungs import RungJudge
from hpo.search.samplers import draw
from hpo.spec.configure import configure
from hpo.spec.objectives import unreported
from hpo.spec.seeds import derive_seed
from hpo.text import first_line
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


class Conductor:
    """Drives one open ledger.

    Whatever breaks under a call (the database, the disk, a sampler) is kept in `fatal` and stops the study: an
    exception thrown through Ray's event loop would be taken for the trial's own failure. Calls may come from
    any thread, one at a time.
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
        self.stopping: str | None = None
        """Why nothing more is admitted and running trials end after their epoch, once that is so."""
        self.ending: str | None = None
        """Which part of the budget is reached, once one is: nothing more is admitted, and running trials end where
        `budget.when_reached` says."""
        self.fatal: Exception | None = None
        self._patience = Patience(ledger)
        self._lock = threading.RLock()
        self._listener = listener
        self._clock = clock
        self._beat = 0.0
        self._spent = ledger.study.seconds
        self._began = clock()
        self._base = self.spec.base()
        self._judge = RungJudge(self.spec, ledger.trials)
        self._queue = list(ledger.unfinished())
        self._running: set[int] = set()
        self._noticed: set[tuple[int, int]] = set()
        ledger.end(None)

    # ---------------------------------------------------------------------------------------- admission

    def next_trial(self) -> Assignment | None:
        """The next trial to train, unfinished ones first; None when there is none now: see `exhausted`."""
        with self._guarded():
            self._check_clock()
            if self.stopping is not None or self.ending is not None:
                return None
            if self._queue:
                trial = self.ledger.resume(self._queue.pop(0))
                again = len(trial.attempts) > 1 and trial.attempts[-2].lost is not None
                self._tell("lost" if again else "resumed", trial)
            elif sum(trial.started for trial in self.ledger.trials) < self.spec.budget.trials:
                trial = self.ledger.ask(
                    lambda asked: draw(asked, self.spec.space),
                    lambda number: derive_seed(self.spec.seed, number),
                )
                self._tell("started", trial)
            else:
                return None
            self._running.add(trial.number)
            return Assignment(trial.number, trial.seed or 0, configure(self._base, trial.values))
        return None

    @property
    def exhausted(self) -> bool:
        """Whether no trial will come any more. While one is running it may lose its worker and come again."""
        if self.stopping is not None or self._running:
            return self.stopping is not None
        return self.ending is not None or not self._queue

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
                self._notice_loss(known, metrics.epoch)
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
            if self._judge.counts_compute and metrics.compute is None:
                self._finish(number, failure="asha.resource is compute, which the trainer does not report")
                return False
            if absent := unreported(self.spec.objectives, metrics):
                text = f"the trainer did not report {', '.join(absent)}, which objectives asks for"
                self._finish(number, failure=f"{text}, after epoch {metrics.epoch}")
                return False
            decision = self._judge.decide(known, metrics)
            trial = self.ledger.record(number, metrics, decision)
            self._tell("epoch", trial)
            self._check_budget()
            if trial.pruned_at is not None:
                self._finish(number, pruned_at=trial.pruned_at)
            elif metrics.epoch >= self.spec.train.epochs:
                self._finish(number)
                self._check_patience()
                self._check_budget()
            elif self.stopping is not None or self._may_rest(metrics.epoch, decision):
                self._finish(number)
            return self.ledger.trial(number).outcome is None
        return False

    def _notice_loss(self, trial: TrialRecord, epoch: int) -> None:
        """Tell when a trial goes back further than to its last epoch, which it repeats after every resume."""
        if epoch < trial.attempts[-1].resumed_after and (trial.number, len(trial.attempts)) not in self._noticed:
            self._noticed.add((trial.number, len(trial.attempts)))
            text = f"trial {trial.number}: later checkpoints are lost or damaged; it goes on from epoch {epoch}"
            self._listener(Event("notice", text=f"warning: {text}"))

    def _may_rest(self, epoch: int, decision: RungDecision | None) -> bool:
        """Whether a trial that could go on ends here because the budget is reached."""
        if self.ending is None:
            return False
        if self.spec.budget.when_reached == "checkpoint":
            return epoch % self.spec.train.checkpoint_every == 0
        return decision is not None

    def on_failure(self, number: int, reason: str) -> None:
        """The trainer itself failed: recorded as such, never retried, the study goes on."""
        with self._guarded():
            if self.ledger.trial(number).outcome is None:
                self._finish(number, failure=redact(reason))

    def on_lost(self, number: int, reason: str) -> None:
        """The trial's worker or node died: it comes again from its last checkpoint, unless that has happened more
        than `retries` times, in this driver and those before it."""
        with self._guarded():
            if self.ledger.trial(number).outcome is not None:
                return
            reason = redact(reason)
            trial = self.ledger.lose(number, reason)
            self._running.discard(number)
            losses = sum(attempt.lost is not None for attempt in trial.attempts)
            if losses > self.spec.retries:
                self._finish(number, failure=f"lost its worker {losses} times; the last time: {reason}")
            else:
                self._queue.insert(0, number)

    def on_broken(self, reason: str) -> None:
        """A worker met something that no trial is to blame for, such as a full disk: the study stops, resumable."""
        self.fail(InfrastructureError(redact(reason)))

    def on_warning(self, number: int, text: str) -> None:
        """Something a person should know of a trial that goes on."""
        with self._guarded():
            self._listener(Event("notice", text=f"warning: trial {number}: {redact(text)}"))

    def on_placed(self, number: int, host: str, device: str, pid: int) -> None:
        """Where a trial runs, once known."""
        with self._guarded():
            if self.ledger.trial(number).outcome is None:
                self.ledger.place(number, host, device, pid)

    def tick(self) -> None:
        """To be called every second or so: gives signs of life and keeps the time budget during long epochs."""
        with self._guarded():
            self._check_clock()

    def fail(self, error: Exception) -> None:
        """Stop the study because of `error`; `close` raises it. The first one counts."""
        self.fatal = self.fatal or error
        self.stop(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End of this driver: no trial stays RUNNING.

        Raises:
            InfrastructureError: the ledger, the disk or Ray failed during the study or now.
            Exception: whatever else broke, which is a mistake in this program or in a sampler.
        """
        with self._guarded():
            begun = [trial for trial in self.ledger.trials if trial.started]
            ended = all(trial.outcome is not None and trial.outcome.final for trial in begun)
            if self.ending is None and ended and len(begun) >= self.spec.budget.trials:
                self.ledger.end(f"budget.trials: all {len(begun)} trials have ended")
            self.ledger.close()
        if self.fatal is None:
            return
        if isinstance(self.fatal, (*storage_errors(), InfrastructureError)):
            raise InfrastructureError(f"the study stopped: {_cause(self.fatal)}") from self.fatal
        raise self.fatal

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
        self._running.discard(number)
        self._tell("finished", self.ledger.finish(number, outcome))

    def _check_clock(self) -> None:
        now = self._clock()
        if now - self._beat > HEARTBEAT_S:
            self._beat = now
            self.ledger.heartbeat()
        if self.spec.budget.hours is not None or self.spec.budget.gpu_hours is not None:
            self._check_budget()

    def _check_budget(self) -> None:
        if self.ending is None:
            now = self._clock()
            self._end(reached(self.ledger.study, self._spent + now - self._began, now))

    def _check_patience(self) -> None:
        """To be called when a trial is complete."""
        if self.ending is None:
            self._end(self._patience.exhausted())

    def _end(self, reason: str | None) -> None:
        if reason is not None:
            self.ending = reason
            self.ledger.end(reason)
            self._listener(
                Event("notice", text=f"{reason}; running trials train to their next {self.spec.budget.when_reached}")
            )

    def _tell(self, kind: Literal["started", "resumed", "epoch", "finished", "lost"], trial: TrialRecord) -> None:
        self._listener(Event(kind, trial))

    def _guarded(self) -> _Guard:
        return _Guard(self._lock, self.fail)


class _Guard:
    """Passes an exception of its block on and swallows it here; `Conductor.close` raises it again."""

    def __init__(self, lock: threading.RLock, fail: Callable[[Exception], None]) -> None:
        self._lock = lock
        self._fail = fail

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            self._fail(error)
        self._lock.release()
        return isinstance(error, Exception)


def _cause(error: Exception) -> str:
    """The database's own words instead of Optuna's guess at a cause, in one line."""
    original = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
    return first_line(original) or type(original).__name__
