"""One study's decisions, free of Ray: which trial is next, whether it continues, when the study ends.

Ray's searcher and scheduler are thin adapters around the `Conductor`. Everything else that can train (a test, a
benchmark in virtual time) calls the same methods: `next_trial` and `exhausted` for work, `on_epoch`, `on_failure`,
`on_lost` and the other `on_...` for what happened to it, `tick` meanwhile, and `close` at the end.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from hpo.driver.events import Event, Listener
from hpo.driver.nodes import STRIKES, Failure, Nodes, Place
from hpo.driver.stopping import Patience, all_trials_ended, same_failures, used_up
from hpo.errors import InfrastructureError
from hpo.ledger.outcome import Cause, classify
from hpo.ledger.records import LeftNode, RungDecision, TrialRecord
from hpo.ledger.storage import storage_errors
from hpo.ledger.writer import Ledger
from hpo.redact import as_reason
from hpo.search.regret_bound import regret_bound
from hpo.search.rungs import RungJudge
from hpo.search.samplers import draw
from hpo.spec.configure import configure
from hpo.spec.objectives import reported, unreported
from hpo.spec.seeds import derive_seed
from hpo.spec.study import Spec
from hpo.text import first_line
from trainers.api import EpochMetrics, TrialConfig

HEARTBEAT_S = 30.0


@dataclass(frozen=True)
class Assignment:
    """A trial to be trained."""

    number: int
    seed: int
    config: TrialConfig


def fault(spec: Spec, trial: TrialRecord, metrics: EpochMetrics, *, needs_compute: bool = False) -> str | None:
    """Why the report of a new epoch is not acceptable, so that the trial fails; None for an acceptable one.

    Args:
        trial: as recorded before the report.
        needs_compute: whether the rungs count compute.
    """
    if metrics.epoch != len(trial.epochs) + 1:
        return f"the trainer reported epoch {metrics.epoch} after epoch {len(trial.epochs)}"
    value = reported(metrics, spec.objective.field)
    if value is not None and not math.isfinite(value):
        return f"the objective is {value} after epoch {metrics.epoch}"
    if needs_compute and metrics.compute is None:
        return "asha.resource is compute, which the trainer does not report"
    if missing := unreported(spec.objectives, metrics):
        names = ", ".join(missing)
        return f"the trainer did not report {names}, which objectives asks for, after epoch {metrics.epoch}"
    return None


class Conductor:
    """Drives one open ledger.

    An error under a call (the database, the disk, a sampler) is kept in `fatal` and stops the study. It is not raised,
    because Ray's event loop would take it for the trial's own failure. Calls may come from any thread.
    """

    def __init__(self, ledger: Ledger, *, listener: Listener = lambda event: None) -> None:
        self.ledger = ledger
        self.spec = ledger.spec
        self.stopping: str | None = None
        """Why no trial is admitted any more and running trials end after their current epoch; None before that."""
        self.ending: str | None = None
        """Which part of the budget is reached; None before that. No trial is admitted any more, and running trials
        end where `budget.when_reached` says."""
        self.fatal: Exception | None = None
        self._patience = Patience(self._possible_improvement)
        self._lock = threading.RLock()
        self._listener = listener
        self._now = ledger.clock.now
        self._beat = -math.inf
        self._began = self._now() - ledger.study.seconds
        """When the study would have begun if its drivers had worked on it without a pause."""
        self._base = self.spec.base()
        self._judge = RungJudge(self.spec, ledger.trials)
        self._queue = list(ledger.unfinished())
        self._running: set[int] = set()
        self._nodes = Nodes()
        self._places: dict[int, str] = {}
        """Node of each running trial that has reported."""
        self._noticed: set[tuple[int, int]] = set()
        self._first_failures: list[str] | None = []
        """How the trials of this driver failed, as long as no trial has reported an epoch; None after that."""
        ledger.end(None)
        ledger.leave_nodes(())

    # ---------------------------------------------------------------------------------------- admission

    def next_trial(self) -> Assignment | None:
        """The next trial to train, unfinished ones first; None when there is none now: see `exhausted`."""
        assignment = None
        with self._guarded():
            self._check_clock()
            trial = self._admit() if self.stopping is None and self.ending is None else None
            if trial is not None:
                self._running.add(trial.number)
                self._places.pop(trial.number, None)  # of an earlier attempt
                assignment = Assignment(trial.number, trial.seed or 0, configure(self._base, trial.values))
        return assignment

    def _admit(self) -> TrialRecord | None:
        """Begin the next attempt at a trial; None if the budget has no trial left."""
        if self._queue:
            trial = self.ledger.resume(self._queue.pop(0))
            self._emit("resumed", trial)
            return trial
        if sum(trial.started for trial in self.ledger.trials) >= self.spec.budget.trials:
            if not self._running:
                self._settle_doubts()
            return self._admit() if self._queue else None
        trial = self.ledger.ask(
            lambda asked: draw(asked, self.spec.space),
            lambda number: derive_seed(self.spec.seed, number),
        )
        self._emit("started", trial)
        return trial

    @property
    def exhausted(self) -> bool:
        """Whether no trial will come any more. A running trial may lose its worker and come again."""
        if self.stopping is not None or self._running or self._nodes.waiting:
            return self.stopping is not None or (self.ending is not None and not self._running)
        return self.ending is not None or not self._queue

    def stop(self, reason: str) -> None:
        """Admit no more trials and interrupt running ones after their current epoch. Safe in a signal handler."""
        if self.stopping is None:
            self.stopping = reason

    # ------------------------------------------------------------------------------------------ results

    def on_epoch(self, number: int, metrics: EpochMetrics) -> bool:
        """Take one epoch's report; return whether the trial continues."""
        continues = False
        with self._guarded():
            self._check_clock()
            trial = self.ledger.trial(number)
            if trial.outcome is None:
                self._notice_sound(trial)
                self._take(trial, metrics)
                continues = self.ledger.trial(number).outcome is None
        return continues

    def _take(self, trial: TrialRecord, metrics: EpochMetrics) -> None:
        """Check, judge and record the report of a running trial, and do what follows from it."""
        if metrics.epoch <= len(trial.epochs):  # repeated after a resume; what followed from it is recorded already
            self._notice_loss(trial, metrics.epoch)
            return
        if problem := fault(self.spec, trial, metrics, needs_compute=self._judge.counts_compute):
            diverged = not math.isfinite(self.spec.objective.score_of(metrics) or 0.0)
            self._finish(trial.number, failure=problem, cause=Cause.CONFIGURATION if diverged else Cause.TRAINER)
            if not diverged:  # else it says nothing of other configurations
                self._check_first_failures(trial, problem)
            return
        decision = self._judge.decide(trial, metrics)
        trial = self.ledger.record(trial.number, metrics, decision)
        self._emit("epoch", trial)
        self._after(trial, decision)

    def _after(self, trial: TrialRecord, decision: RungDecision | None) -> None:
        """What follows from the newest epoch of a trial: it ends, or continues."""
        self._check_budget()
        epoch = len(trial.epochs)
        if trial.pruned_at is not None:
            self._finish(trial.number, pruned_at=trial.pruned_at)
        elif epoch >= self.spec.train.epochs:
            self._finish(trial.number)
            self._check_patience()
            self._check_budget()
        elif self.stopping is not None or self._may_rest(epoch, decision):
            self._finish(trial.number)

    def _may_rest(self, epoch: int, decision: RungDecision | None) -> bool:
        """Whether a trial that could continue ends here because the budget is reached."""
        if self.ending is None:
            return False
        if self.spec.budget.when_reached == "checkpoint":
            return epoch % self.spec.train.checkpoint_every == 0
        return decision is not None

    def _notice_loss(self, trial: TrialRecord, epoch: int) -> None:
        """Warn if a trial repeats more than its last epoch, which it repeats after every resume."""
        if epoch < trial.attempts[-1].resumed_after and (trial.number, len(trial.attempts)) not in self._noticed:
            self._noticed.add((trial.number, len(trial.attempts)))
            self._notice(
                f"warning: trial {trial.number}: later checkpoints are lost or damaged; it continues from epoch {epoch}"
            )

    def on_failure(self, number: int, text: str, cause: Cause = Cause.UNCLEAR, place: Place | None = None) -> None:
        """The trainer itself failed: recorded as such, and the study continues. Where the node may be to blame, the
        trial waits for a verdict and may run once more elsewhere: see `hpo.driver.nodes`."""
        failure = Failure(as_reason(text), cause)  # before the lock: masking a long text takes a while
        with self._guarded():
            if self.ledger.trial(number).outcome is None:
                self._judge_failure(number, failure, place)

    def on_lost(self, number: int, text: str, place: Place | None = None) -> None:
        """The trial's worker or node died. The trial comes again from its last checkpoint, unless that has happened
        more than `retries` times, in this driver and those before it."""
        failure = Failure(as_reason(text), Cause.MACHINE, lost=True)
        with self._guarded():
            if self.ledger.trial(number).outcome is None:
                self.ledger.lose(number, failure.text)
                self._judge_failure(number, failure, place)

    def on_lacking(self, number: int, text: str, place: Place) -> None:
        """The trial's node lacks what every trial needs: the trial is put back, and the node gets no more trials.

        The study stops if there is no other node.
        """
        lack = as_reason(text)
        with self._guarded():
            if self.ledger.trial(number).outcome is not None:
                return
            self._running.discard(number)
            self._put_back(number, f"{place.host} {lack}", first=True)
            if place.node not in self._nodes.left:
                self._leave(place, LeftNode(place.host, first_line(lack), proved=True))
            self.check_nodes({place.node, *place.others})

    def on_stranded(self, number: int) -> None:
        """The trial waits for a node that it does not avoid, and none is there any more: it is put back."""
        with self._guarded():
            if number in self._running and self.ledger.trial(number).outcome is None:
                self._running.discard(number)
                self._put_back(number, "the nodes that it could begin on have gone", first=True)

    def check_nodes(self, nodes: Iterable[str]) -> None:
        """If no other nodes are there than these and all of them are left, use them again; if all of them lack
        something for certain, stop the study."""
        with self._guarded():
            if (there := set(nodes)) and there <= self._nodes.left.keys():
                again = self._use_again(self._nodes.acquit_all())
                if not again and self.stopping is None:
                    lacks = dict.fromkeys(f"{left.host} {left.reason}" for left in self._nodes.left.values())
                    self.fail(InfrastructureError(f"no node can train; {'; '.join(lacks)}"))

    def _judge_failure(self, number: int, failure: Failure, place: Place | None) -> None:
        trial = self.ledger.trial(number)
        self._running.discard(number)
        verdict = self._nodes.failed(trial, failure, place) if place else "final"
        if place is None or verdict == "final":
            if place is not None:  # a node that has gone shows nothing of those that were left
                self._use_again(self._nodes.acquit(trial))
            self._fail(number, failure)
        elif verdict == "wait":
            self._emit("lost", self.ledger.hold(number))
        else:
            self._put_back(number, f"{failure.text} on {place.host}" if not failure.lost else failure.text)
            if verdict == "leave":
                said = f"{STRIKES} trials in a row failed before their first report, the last one: "
                self._leave(place, LeftNode(place.host, f"{said}{first_line(failure.text)}", proved=False))

    def _fail(self, number: int, failure: Failure) -> None:
        """No node is to blame. A trial that lost its worker is tried again, unless that has happened too often."""
        trial = self.ledger.trial(number)
        losses = sum(attempt.lost is not None and not attempt.put_back for attempt in trial.attempts)
        if failure.lost and losses <= self.spec.retries:
            self._queue.insert(0, number)
            self._emit("lost", trial)  # until it comes again it holds no GPU, which MLflow must know
            return
        text = f"lost its worker {losses} times; the last time: {failure.text}" if failure.lost else failure.text
        self._finish(number, failure=text, cause=failure.cause)
        self._check_first_failures(self.ledger.trial(number), failure.text)

    def _put_back(self, number: int, reason: str, *, first: bool = False) -> None:
        """The trial runs again, elsewhere if possible; the attempt does not count."""
        self._emit("lost", self.ledger.lose(number, reason, put_back=True))
        self._queue.insert(0 if first else len(self._queue), number)

    def _leave(self, place: Place, left: LeftNode) -> None:
        for number, failure in self._nodes.leave(place, left).items():
            self._put_back(number, failure.text)
        self.ledger.leave_nodes(self._nodes.left.values())
        self._notice(
            f"warning: {left.host} gets no more trials, and its trials are put back: {left.host} {left.reason}"
        )

    def _settle_doubts(self) -> None:
        """Nothing else is to do: trials that wait for a verdict run elsewhere, of one node after another, because a
        node that is in doubt, too, may train them. Where no other node is in use, they have failed for good."""
        for place in self._nodes.doubtful():
            if place.others - self.left_nodes:
                said = "failed the last trials before their first report"
                self._leave(place, LeftNode(place.host, said, proved=False))
                return
            for number, failure in self._nodes.clear(place.node).items():
                self._fail(number, failure)

    def _use_again(self, nodes: list[LeftNode]) -> bool:
        if nodes:
            self.ledger.leave_nodes(self._nodes.left.values())
            hosts = ", ".join(node.host for node in nodes)
            self._notice(f"{hosts} gets trials again: it is not to blame for the failures there")
        return bool(nodes)

    def _notice_sound(self, trial: TrialRecord) -> None:
        """The first report of an attempt shows that its node is sound: what failed there has failed for good."""
        if trial.attempts[-1].resumed_after == len(trial.epochs):
            for number, failure in self._nodes.sound(self._places.get(trial.number, "")).items():
                self._fail(number, failure)

    @property
    def left_nodes(self) -> frozenset[str]:
        """Ids of the nodes that get no trials."""
        return frozenset(self._nodes.left)

    @property
    def running(self) -> int:
        """Number of the trials that have a worker or wait for one; those on nodes that are left take no room there."""
        return sum(self._places.get(number) not in self._nodes.left for number in list(self._running))

    def on_broken(self, text: str) -> None:
        """A worker met a fault that no trial caused, for example a full disk: the study stops and can be resumed."""
        self.fail(InfrastructureError(as_reason(text)))

    def on_warning(self, number: int, text: str) -> None:
        """Pass on a warning about a trial that continues."""
        warning = as_reason(text)
        with self._guarded():
            self._notice(f"warning: trial {number}: {warning}")

    def on_placed(self, number: int, host: str, device: str, pid: int, node: str = "") -> None:
        """Record where a trial runs, once that is known."""
        with self._guarded():
            self._places[number] = node
            if self.ledger.trial(number).outcome is None:
                self.ledger.place(number, host, device, pid)

    # -------------------------------------------------------------------------------------- the whole study

    def tick(self) -> None:
        """Call this about every second: it gives signs of life and checks the time budget during long epochs."""
        with self._guarded():
            self._check_clock()

    def fail(self, error: Exception) -> None:
        """Stop the study because of `error`; `close` raises it. The first error counts."""
        self.fatal = self.fatal or error
        self.stop(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End of this driver: no trial stays RUNNING.

        Raises:
            InfrastructureError: the ledger, the disk or Ray failed during the study or now.
            Exception: any other error, which is a mistake in this program or in a sampler.
        """
        with self._guarded():
            if self.ending is None and (reason := all_trials_ended(self.ledger.study)):
                self.ledger.end(reason)
            self.ledger.close()
        if self.fatal is None:
            return
        if isinstance(self.fatal, (*storage_errors(), InfrastructureError)):
            raise InfrastructureError(f"the study stopped: {_cause(self.fatal)}") from self.fatal
        raise self.fatal

    # ------------------------------------------------------------------------------------------ helpers

    def _finish(
        self,
        number: int,
        *,
        failure: str | None = None,
        cause: Cause = Cause.UNCLEAR,
        pruned_at: float | None = None,
    ) -> None:
        trial = self.ledger.trial(number)
        outcome = classify(
            epochs=len(trial.epochs),
            horizon=self.spec.train.epochs,
            value=trial.value,
            failure=failure,
            cause=cause,
            pruned_at=pruned_at,
        )
        self._running.discard(number)
        self._emit("finished", self.ledger.finish(number, outcome))

    def _check_clock(self) -> None:
        now = self._now()
        if now - self._beat > HEARTBEAT_S:
            self._beat = now
            self.ledger.heartbeat()
        if self.spec.budget.hours is not None or self.spec.budget.gpu_hours is not None:
            self._check_budget()

    def _check_budget(self) -> None:
        if self.ending is None:
            now = self._now()
            self._end(used_up(self.ledger.study, now - self._began, now))

    def _check_first_failures(self, trial: TrialRecord, failure: str) -> None:
        """End the study if its first trials all fail in the same way before their first epoch: so will the others."""
        if self._first_failures is None:
            return
        if trial.epochs or any(other.epochs for other in self.ledger.trials):
            self._first_failures = None
            return
        way = re.sub(r"[0-9]+", "0", first_line(failure))  # paths and sizes may hold a trial's number
        self._first_failures = [*self._first_failures, way] if way in self._first_failures else [way]
        limit = self.spec.stop_after_failures
        if limit and len(self._first_failures) >= limit and self.ending is None:
            self._end(same_failures(limit, first_line(failure)))

    def _check_patience(self) -> None:
        """Call this when a trial is complete."""
        if self.ending is None:
            self._end(self._patience.exhausted(self.ledger.study))

    def _possible_improvement(self, numbers: set[int]) -> float | None:
        finished = self.ledger.finished_trials()
        return regret_bound([trial for trial in finished if trial.number in numbers], self.spec.seed)

    def _end(self, reason: str | None) -> None:
        if reason is not None:
            self.ending = reason
            self.ledger.end(reason)
            self._notice(
                f"Stopping: {reason.partition(': ')[2]}; running trials continue to their next "
                f"{self.spec.budget.when_reached}"
            )

    def _emit(self, kind: Literal["started", "resumed", "epoch", "finished", "lost"], trial: TrialRecord) -> None:
        self._listener(Event(kind, trial))

    def _notice(self, text: str) -> None:
        self._listener(Event("notice", text=text))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One call at a time; an error of the block is kept for `close` instead of being raised."""
        with self._lock:
            try:
                yield
            except Exception as error:  # noqa: BLE001 - `close` raises it
                self.fail(error)


def _cause(error: Exception) -> str:
    """The database's own words instead of Optuna's guess at a cause, in one line."""
    original = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
    return first_line(original) or type(original).__name__
