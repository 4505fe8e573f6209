"""Which trials run, which come again, and what becomes of a trial that failed or lost its worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpo.driver.decisions.nodes import STRIKES, Failure, Nodes, Place
from hpo.driver.events import Announcer
from hpo.gpu_sharing import places, shared
from hpo.ledger.outcome import Cause, Outcome, classify
from hpo.ledger.records import LeftNode, TrialRecord
from hpo.ledger.writer import Ledger
from hpo.text import first_line


class Attempts:
    """The attempts of a study's trials at the nodes that its driver uses."""

    def __init__(self, ledger: Ledger, announce: Announcer, failed: Callable[[TrialRecord, str], None]) -> None:
        """
        Args:
            failed: told of each trial that no node made fail, and how.
        """
        self._ledger = ledger
        self._announce = announce
        self._failed = failed
        self._queue = list(ledger.unfinished())
        self._running: set[int] = set()
        self._nodes = Nodes()
        self._places: dict[int, str] = {}
        """Node of each running trial that has reported."""
        self._noticed: set[tuple[int, int]] = set()
        ledger.leave_nodes(())

    # ------------------------------------------------------------------------------------- what runs

    @property
    def any_running(self) -> bool:
        """Whether a trial has a worker or waits for one."""
        return bool(self._running)

    @property
    def count(self) -> int:
        """Number of the trials that have a worker or wait for one."""
        return len(self._running)

    @property
    def any_waiting(self) -> bool:
        """Whether a trial waits to run again, or for a verdict on its node."""
        return bool(self._queue or self._nodes.waiting)

    @property
    def taking_room(self) -> int:
        """For how many trials those that have a worker or wait for one take the room; those on nodes that are left take
        none there."""
        there = [number for number in list(self._running) if self._places.get(number) not in self._nodes.left]
        return sum(self._room(number) for number in there)

    @property
    def waits_for_gpu(self) -> bool:
        """Whether a trial that is to have a GPU alone waits for one. No other may begin then, or no GPU might ever
        become free."""
        return any(self._room(number) > 1 and number not in self._places for number in list(self._running))

    def _room(self, number: int) -> int:
        return places(self._ledger.gpus, alone=self._ledger.trial(number).alone)

    @property
    def left_nodes(self) -> frozenset[str]:
        """Ids of the nodes that get no trials."""
        return frozenset(self._nodes.left)

    def is_running(self, number: int) -> bool:
        """Whether the trial has a worker or waits for one."""
        return number in self._running

    def begin(self, number: int) -> None:
        """An attempt begins; nobody knows yet where."""
        self._running.add(number)
        self._places.pop(number, None)  # of an earlier attempt

    def place(self, number: int, node: str) -> None:
        """The trial has reported from this node."""
        self._places[number] = node

    def resume(self) -> TrialRecord | None:
        """Begin the next attempt at a trial that is to run again; None if there is none."""
        if not self._queue:
            return None
        trial = self._ledger.resume(self._queue.pop(0))
        self._announce.trial("resumed", trial)
        return trial

    def take_up(self, number: int) -> TrialRecord:
        """Begin the next attempt at a pruned trial that is kept: it trains on to its end."""
        trial = self._ledger.resume(number)
        self._announce.trial("resumed", trial)
        return trial

    # ---------------------------------------------------------------------------------- how it goes

    def finish(
        self, number: int, *, failure: str | None = None, cause: Cause = Cause.UNCLEAR, pruned_at: float | None = None
    ) -> None:
        """The trial has ended, or is interrupted; see `hpo.ledger.outcome.classify`."""
        trial = self._ledger.trial(number)
        outcome = classify(
            epochs=len(trial.epochs),
            horizon=self._ledger.spec.train.epochs,
            value=trial.value,
            failure=failure,
            cause=cause,
            pruned_at=pruned_at,
            kept=self._ledger.spec.search.landing,
            taken_up=trial.taken_up,
        )
        self._running.discard(number)
        self._announce.trial("finished", self._ledger.finish(number, outcome))

    def rest(self, number: int) -> None:
        """The trial is interrupted by this driver, which may take it up again."""
        self.finish(number)
        self._queue.append(number)

    def end(self, number: int, outcome: Outcome) -> None:
        """The trial ends for good, whether it trains or waits."""
        self._running.discard(number)
        if number in self._queue:
            self._queue.remove(number)
        self._nodes.waiting.pop(number, None)
        self._announce.trial("finished", self._ledger.finish(number, outcome))

    def let_go(self) -> None:
        """The study ends: pruned trials that are kept will not be taken up any more."""
        for trial in self._ledger.let_go():
            self._announce.trial("let_go", trial)

    def notice_loss(self, trial: TrialRecord, epoch: int) -> None:
        """Warn if a trial continues before the epoch of its last checkpoint, which it repeats after every resume."""
        every, after = self._ledger.spec.train.checkpoint_every, trial.attempts[-1].resumed_after
        if epoch < max(1, after - after % every) and (trial.number, len(trial.attempts)) not in self._noticed:
            self._noticed.add((trial.number, len(trial.attempts)))
            self._announce.notice(
                f"warning: trial {trial.number}: later checkpoints are lost or damaged; it continues from epoch {epoch}"
            )

    def notice_sound(self, trial: TrialRecord) -> None:
        """The first report of an attempt shows that its node is sound: what failed there has failed for good."""
        if trial.attempts[-1].resumed_after == len(trial.epochs):
            for number, failure in self._nodes.sound(self._places.get(trial.number, "")).items():
                self._fail(number, failure)

    def judge(self, number: int, failure: Failure, place: Place | None) -> None:
        """The attempt failed or lost its worker. Where the node may be to blame, the trial waits for a verdict and may
        run once more elsewhere: see `hpo.driver.decisions.nodes`."""
        trial = self._ledger.trial(number)
        self._running.discard(number)
        if failure.memory and self._crowded(trial):
            self._announce.trial("lost", self._ledger.lose(number, failure.text, put_back=True, crowded=True))
            self._queue.insert(0, number)
            return
        verdict = self._nodes.failed(trial, failure, place) if place else "final"
        if place is None or verdict == "final":
            if place is not None:  # a node that has gone shows nothing of those that were left
                self._use_again(self._nodes.acquit(trial))
            self._fail(number, failure)
        elif verdict == "wait":
            self._announce.trial("lost", self._ledger.hold(number))
        else:
            self.put_back(number, f"{failure.text} on {place.host}" if not failure.lost else failure.text)
            if verdict == "leave":
                said = f"{STRIKES} trials in a row failed before their first report, the last one: "
                self._leave(place, LeftNode(place.host, f"{said}{first_line(failure.text)}", proved=False))

    def _crowded(self, trial: TrialRecord) -> bool:
        """Whether other trials may have had the memory of the trial's GPU. On a cluster, where other studies may take
        each part of a GPU that becomes free, no trial waits for a whole one."""
        attempt = trial.attempts[-1]
        return shared(attempt.gpus, attempt.device) and self._ledger.spec.ray.cluster() is None

    def put_back(self, number: int, reason: str, *, first: bool = False) -> None:
        """The trial runs again, elsewhere if possible; the attempt does not count."""
        self._running.discard(number)
        self._announce.trial("lost", self._ledger.lose(number, reason, put_back=True))
        self._queue.insert(0 if first else len(self._queue), number)

    def _fail(self, number: int, failure: Failure) -> None:
        """No node is to blame. A trial that lost its worker is tried again, unless that has happened too often."""
        trial = self._ledger.trial(number)
        losses = sum(attempt.lost is not None and not attempt.put_back for attempt in trial.attempts)
        if failure.lost and losses <= self._ledger.spec.retries:
            self._queue.insert(0, number)
            self._announce.trial("lost", trial)  # until it comes again it holds no GPU, which MLflow must know
            return
        text = f"lost its worker {losses} times; the last time: {failure.text}" if failure.lost else failure.text
        self.finish(number, failure=text, cause=failure.cause)
        self._failed(self._ledger.trial(number), failure.text)

    # ------------------------------------------------------------------------------------- the nodes

    def lacks(self, place: Place, lack: str) -> None:
        """The node lacks what every trial needs: it gets no more trials."""
        if place.node not in self._nodes.left:
            self._leave(place, LeftNode(place.host, first_line(lack), proved=True))

    def unusable(self, nodes: Iterable[str]) -> str | None:
        """Why no trial can begin if no other nodes are there than these; None where one can. If all of them are left,
        those that are not proved to lack something are used again."""
        there = set(nodes)
        if not there or not there <= self._nodes.left.keys() or self._use_again(self._nodes.acquit_all()):
            return None
        lacks = dict.fromkeys(f"{left.host} {left.reason}" for left in self._nodes.left.values())
        return f"no node can train; {'; '.join(lacks)}"

    def settle_doubts(self) -> None:
        """Nothing else is to do: trials that wait for a verdict run elsewhere, of one node after another, because a
        node that is in doubt, too, may train them. Where no other node is in use, they have failed for good."""
        for place in self._nodes.doubtful():
            if place.others - self.left_nodes:
                said = "failed the last trials before their first report"
                self._leave(place, LeftNode(place.host, said, proved=False))
                return
            for number, failure in self._nodes.clear(place.node).items():
                self._fail(number, failure)

    def _leave(self, place: Place, left: LeftNode) -> None:
        for number, failure in self._nodes.leave(place, left).items():
            self.put_back(number, failure.text)
        self._ledger.leave_nodes(self._nodes.left.values())
        self._announce.notice(
            f"warning: {left.host} gets no more trials, and its trials are put back: {left.host} {left.reason}"
        )

    def _use_again(self, nodes: list[LeftNode]) -> bool:
        if nodes:
            self._ledger.leave_nodes(self._nodes.left.values())
            hosts = ", ".join(node.host for node in nodes)
            self._announce.notice(f"{hosts} gets trials again: it is not to blame for the failures there")
        return bool(nodes)
