"""One study's decisions, free of Ray: which trial is next, whether it continues, when the study ends.

Ray's searcher and scheduler are thin adapters around the `Conductor`. Everything else that can train (a test, a
benchmark in virtual time) calls the same methods: `next_trial` and `exhausted` for work, `on_epoch`, `on_failure`,
`on_lost` and the other `on_...` for what happened to it, `tick` meanwhile, and `close` at the end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from hpo.driver.calls import Calls
from hpo.driver.decisions.admission import Admission
from hpo.driver.decisions.attempts import Attempts
from hpo.driver.decisions.ending import Ending
from hpo.driver.decisions.landing import Landing
from hpo.driver.decisions.nodes import Failure, Place
from hpo.driver.decisions.reports import fault
from hpo.driver.decisions.steering import OVER, Steering
from hpo.driver.decisions.stopping import all_trials_ended
from hpo.driver.decisions.tally import Tally
from hpo.driver.events import Announcer, Listener
from hpo.errors import InfrastructureError
from hpo.ledger.outcome import Cause
from hpo.ledger.records import Phase, RungDecision, TrialRecord
from hpo.ledger.writer import Ledger
from hpo.redact import as_reason
from hpo.search.ahead import begin_ahead
from hpo.search.prospect import prospect
from hpo.search.rungs import RungJudge, training_rungs
from hpo.search.samplers import draw, study_space
from hpo.spec.configure import configure
from hpo.spec.study import Spec
from trainers.api import EpochMetrics, TrialConfig

HEARTBEAT_S = 30.0
NOTES_S = 2.0
"""What is noted of trials is written so often: who watches from elsewhere looks as often."""
TICK_S = 1.0


@dataclass(frozen=True)
class Assignment:
    """A trial to be trained."""

    number: int
    seed: int
    config: TrialConfig
    alone: bool = False
    """Whether it gets a whole GPU where trials share them."""


class Conductor:
    """Drives one open ledger. `hpo.driver.decisions` holds the rules; here is who asks them when.

    An error under a call (the database, the disk, a sampler) is kept in `fatal` and stops the study. It is not raised,
    because Ray's event loop would take it for the trial's own failure. Calls may come from any thread.
    """

    def __init__(self, ledger: Ledger, *, listener: Listener = lambda event: None) -> None:
        self.ledger = ledger
        self.stopping: str | None = None
        """Why no trial is admitted any more and running trials end after their current epoch; None before that."""
        self._calls = Calls(self.stop)
        self._announce = Announcer(listener)
        self._now = ledger.clock.now
        self._beat = self._noted = self._ticked = -math.inf
        self._base = self.spec.base()
        self._judge = RungJudge(self.spec, ledger.trials)
        self.tally = Tally(self.spec)
        """What is known of all trials together."""
        ledger.watch(self.tally.update)
        self._ahead = begin_ahead(ledger.sampler, ledger.study.transfer.history, limit=self.spec.budget.trials)
        if self._ahead is not None:
            ledger.watch(self._ahead.notice)
        space = study_space(self.spec)
        foresee = functools.partial(prospect, space, self.spec.seed)
        self._ending = Ending(ledger, self._announce, self.tally, foresee)
        self._attempts = Attempts(ledger, self._announce, self._ending.check_first_failures)
        self.steering = Steering(
            ledger, self._calls, self._announce, self._attempts, self._ending, self.tally, self._ahead
        )
        """What people ask of the study while it runs."""
        landing = Landing(ledger, self._ahead, self.tally, space, self._seconds_left)
        suggest = functools.partial(draw, space=self.spec.space)
        self._admission = Admission(ledger, self._announce, self._attempts, self.tally, landing.choose, suggest)

    @property
    def spec(self) -> Spec:
        """The specification, which people may change while the study runs."""
        return self.ledger.spec

    @property
    def fatal(self) -> Exception | None:
        """The error that stopped the study; None if none did."""
        return self._calls.error

    @property
    def ending(self) -> str | None:
        """Which part of the budget is reached; None before that. No trial is admitted any more, and running trials
        end where `budget.when_reached` says."""
        return self._ending.reason

    # ---------------------------------------------------------------------------------------- admission

    def next_trial(self) -> Assignment | None:
        """The next trial to train, unfinished ones first; None when there is none now: see `exhausted`."""
        assignment = None
        with self._calls.one():
            self._check_clock()
            self._ending.check_patience(wait=not self._attempts.any_running)
            admits = self.stopping is None and self.ending is None and not self.steering.paused
            trial = self._admission.next() if admits else None
            if trial is not None:
                self._attempts.begin(trial.number)
                config = configure(self._base, trial.assigned)
                assignment = Assignment(trial.number, trial.seed or 0, config, alone=trial.alone)
        return assignment

    @property
    def exhausted(self) -> bool:
        """Whether no trial will come any more. A running trial may lose its worker and come again."""
        if self.stopping is not None:
            return True
        with self._calls.one():  # nothing is added to a study between the last question and the end
            if self._attempts.any_running or self.steering.waits:
                return False
            self.steering.over = OVER
        return True

    def stop(self, reason: str) -> None:
        """Admit no more trials and interrupt running ones after their current epoch. Safe in a signal handler."""
        if self.stopping is None:
            self.stopping, self.steering.over = reason, OVER

    # ------------------------------------------------------------------------------------------ results

    def on_epoch(self, number: int, metrics: EpochMetrics) -> bool:
        """Take one epoch's report; return whether the trial continues."""
        continues = False
        with self._calls.one():
            self._check_clock()
            trial = self.ledger.trial(number)
            if trial.outcome is None:
                self._attempts.notice_sound(trial)
                self._take(trial, metrics)
                continues = self.ledger.trial(number).outcome is None
        return continues

    def _take(self, trial: TrialRecord, metrics: EpochMetrics) -> None:
        """Check, judge and record the report of a running trial, and do what follows from it."""
        if metrics.epoch <= len(trial.epochs):  # repeated after a resume; what followed from it is recorded already
            self._attempts.notice_loss(trial, metrics.epoch)
            return
        if problem := fault(self.spec, trial, metrics, needs_compute=self._judge.counts_compute):
            diverged = not math.isfinite(self.spec.objective.score_of(metrics) or 0.0)
            self._attempts.finish(
                trial.number, failure=problem, cause=Cause.CONFIGURATION if diverged else Cause.TRAINER
            )
            if not diverged:  # else it says nothing of other configurations
                self._ending.check_first_failures(trial, problem)
            return
        decision = self._judge.decide(trial, metrics)
        trial = self.ledger.record(trial.number, metrics, decision)
        self._announce.trial("epoch", trial)
        self._after(trial, decision)

    def _after(self, trial: TrialRecord, decision: RungDecision | None) -> None:
        """What follows from the newest epoch of a trial: it ends, or continues."""
        self._ending.check_budget()
        epoch = len(trial.epochs)
        if trial.pruned_at is not None:
            self._attempts.finish(trial.number, pruned_at=trial.pruned_at)
        elif epoch >= self.spec.train.epochs:
            self._attempts.finish(trial.number)
            self._ending.notice_complete(self.ledger.trial(trial.number))
            self._ending.check_budget()
        elif self.stopping is not None or self.steering.may_rest(epoch, at_rung=self._at_rung(trial, decision)):
            self._attempts.rest(trial.number)

    def _at_rung(self, trial: TrialRecord, decision: RungDecision | None) -> bool:
        """Whether the newest epoch of a trial has reached a rung; ASHA decides there no more if it was taken up."""
        if decision is not None or not trial.taken_up or self.ending is None:
            return decision is not None
        return len(trial.epochs) in training_rungs(self.spec, configure(self._base, trial.assigned).train)

    def on_failure(
        self,
        number: int,
        text: str,
        cause: Cause = Cause.UNCLEAR,
        place: Place | None = None,
        *,
        memory: bool = False,
    ) -> None:
        """The trainer itself failed: recorded as such, and the study continues. Where the node may be to blame, the
        trial waits for a verdict and may run once more elsewhere: see `hpo.driver.decisions.nodes`. Where other trials
        on its GPU may be, it runs once more alone.

        Args:
            memory: whether the device had too little memory for it.
        """
        failure = Failure(as_reason(text), cause, memory=memory)  # before the lock: masking a long text takes a while
        with self._calls.one():
            if self.ledger.trial(number).outcome is None:
                self._attempts.judge(number, failure, place)

    def on_lost(self, number: int, text: str, place: Place | None = None) -> None:
        """The trial's worker or node died. The trial comes again from its last checkpoint, unless that has happened
        more than `retries` times, in this driver and those before it."""
        failure = Failure(as_reason(text), Cause.MACHINE, lost=True)
        with self._calls.one():
            if self.ledger.trial(number).outcome is None:
                self.ledger.lose(number, failure.text)
                self._attempts.judge(number, failure, place)

    def on_lacking(self, number: int, text: str, place: Place) -> None:
        """The trial's node lacks what every trial needs: the trial is put back, and the node gets no more trials.

        The study stops if there is no other node.
        """
        lack = as_reason(text)
        with self._calls.one():
            if self.ledger.trial(number).outcome is not None:
                return
            self._attempts.put_back(number, f"{place.host} {lack}", first=True)
            self._attempts.lacks(place, lack)
            self.check_nodes({place.node, *place.others})

    def on_stranded(self, number: int) -> None:
        """The trial waits for a node that it does not avoid, and none is there any more: it is put back."""
        with self._calls.one():
            if self._attempts.is_running(number) and self.ledger.trial(number).outcome is None:
                self._attempts.put_back(number, "the nodes that it could begin on have gone", first=True)

    def check_nodes(self, nodes: Iterable[str]) -> None:
        """If no other nodes are there than these and all of them are left, use them again; if all of them lack
        something for certain, stop the study."""
        with self._calls.one():
            if (problem := self._attempts.unusable(nodes)) and self.stopping is None:
                self.fail(InfrastructureError(problem))

    @property
    def left_nodes(self) -> frozenset[str]:
        """Ids of the nodes that get no trials."""
        return self._attempts.left_nodes

    @property
    def running(self) -> int:
        """Number of the trials that have a worker or wait for one; those on nodes that are left take no room there."""
        return self._attempts.taking_room

    def on_broken(self, text: str) -> None:
        """A worker met a fault that no trial caused, for example a full disk: the study stops and can be resumed."""
        self.fail(InfrastructureError(as_reason(text)))

    def on_warning(self, number: int, text: str) -> None:
        """Pass on a warning about a trial that continues."""
        warning = as_reason(text)
        with self._calls.one():
            self._announce.notice(f"warning: trial {number}: {warning}")

    def on_placed(
        self, number: int, host: str, device: str, pid: int, node: str = "", phase: Phase | None = None
    ) -> None:
        """Record where a trial runs, and what its worker does next if it says so."""
        with self._calls.one():
            self._attempts.place(number, node)
            if self.ledger.trial(number).outcome is None:
                placed = self.ledger.place(number, host, device, pid, phase)
                if phase is not None:
                    self._announce.trial("placed", placed)

    # -------------------------------------------------------------------------------------- the whole study

    def tick(self) -> None:
        """Call this every second or more often. At most once a second, and once the study is stopping, it gives a sign
        of life and checks the time budget, which may be used up during a long epoch."""
        if (now := self._now()) - self._ticked >= TICK_S or self.stopping != self.ledger.stopping:
            self._ticked = now
            with self._calls.one():
                self._check_clock()

    def fail(self, error: Exception) -> None:
        """Stop the study because of `error`; `close` raises it. The first error counts."""
        self._calls.fail(error)

    def close(self) -> None:
        """End of this driver: no trial stays RUNNING.

        Raises:
            InfrastructureError: the ledger, the disk or Ray failed during the study or now.
            Exception: any other error, which is a mistake in this program or in a sampler.
        """
        with self._calls.one():
            self._ending.close()
        with self._calls.one():
            if self._ahead is not None:
                self._ahead.close()
            if (reason := self._ended()) is not None:
                self._attempts.let_go()
                self.ledger.end(reason)
            self.ledger.close()
        self._calls.raise_error()

    # ------------------------------------------------------------------------------------------ helpers

    def _ended(self) -> str | None:
        """Why the study ends with this driver; None if the next one goes on. One that was stopped could not take up
        pruned trials that are kept, so that is left to the next one."""
        if self.ending is None and self.stopping is not None and any(trial.kept for trial in self.ledger.trials):
            return None
        return self.ending or all_trials_ended(self.ledger.study)

    def _seconds_left(self) -> float:
        return self._ending.left(self.ledger.gpus * (self._attempts.count + 1))

    def _check_clock(self) -> None:
        now = self._now()
        if now - self._beat > HEARTBEAT_S:
            self._beat = now
            self.ledger.heartbeat()
        if now - self._noted > NOTES_S:
            self._noted = now
            self.ledger.write_notes()
        if self.stopping is not None and self.stopping != self.ledger.stopping:
            self.ledger.note_stopping(self.stopping)
            self._announce.study(self.ledger.study)
        self._ending.check_patience()
        if self.spec.budget.hours is not None or self.spec.budget.gpu_hours is not None:
            self._ending.check_budget()
