"""Which nodes of a cluster get trials. Pure: the conductor does what the answers here say.

A node that proves to lack something that every trial needs gets no more trials. Where nothing is proved, this rule
holds: if `STRIKES` trials in a row fail on a node before their first report, it gets no more trials as long as there
are other nodes, and those trials run elsewhere. If one of them fails on a node that trains others, the first node was
not to blame and is used again. So a bad node cannot eat a study.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hpo.ledger.outcome import Cause
from hpo.ledger.records import LeftNode, TrialRecord

STRIKES = 2
"""So many trials in a row must fail on a node before their first report."""

Verdict: TypeAlias = Literal["final", "wait", "leave", "put back"]
"""What follows from a failure. `final`: the node is not to blame. `wait`: the next trial on the node shows whether it
is. `leave`: the node gets no more trials. `put back`: the trial was on its way to a node that was left meanwhile."""


@dataclass(frozen=True)
class Place:
    """Where a trial ran."""

    host: str
    node: str
    """Ray's id of the node; one host may have several nodes."""
    others: frozenset[str] = frozenset()
    """Ids of the other nodes that are alive and large enough for a trial."""


@dataclass(frozen=True)
class Failure:
    """How a trial failed, or lost its worker."""

    text: str
    cause: Cause
    lost: bool = False
    """Whether its worker was lost, so that the trial is tried again in any case."""
    memory: bool = False
    """Whether its device had too little memory for it."""


class Nodes:
    """The nodes that are left, and the trials that wait for a verdict."""

    def __init__(self) -> None:
        self.left: dict[str, LeftNode] = {}
        """The nodes that get no trials, by id."""
        self.waiting: dict[int, Failure] = {}
        """By number of the trial."""
        self._strikes: dict[str, list[int]] = {}
        """By node: the trials that failed there in a row before their first report."""
        self._places: dict[str, Place] = {}
        """Of the nodes in `_strikes`."""
        self._sound: set[str] = set()
        """Nodes on which the newest trial has reported."""
        self._excused: set[int] = set()
        """Trials that have run again because of a node."""

    def failed(self, trial: TrialRecord, failure: Failure, place: Place) -> Verdict:
        """Judge a failure. The trial is among `waiting` where the verdict is `wait`."""
        again = trial.number in self._excused and (
            place.node in self._sound or trial.number in self._strikes.get(place.node, ())
        )
        if again or not _at_the_start(trial) or not failure.cause.may_be_node:
            return "final"
        if not place.others - self.left.keys():
            return "final"
        self._sound.discard(place.node)
        if place.node in self.left:
            self._excused.add(trial.number)
            return "put back"
        strikes = self._strikes.setdefault(place.node, [])
        strikes.append(trial.number)
        self._places[place.node] = place
        if len(set(strikes)) >= STRIKES:
            return "leave"
        self.waiting[trial.number] = failure
        return "wait"

    def leave(self, place: Place, left: LeftNode) -> dict[int, Failure]:
        """Give a node no more trials; return the trials that waited for this verdict. They run elsewhere."""
        self.left[place.node] = left
        strikes = self._strikes.get(place.node, [])
        self._excused.update(strikes)
        return self._judged(strikes)

    def sound(self, node: str) -> dict[int, Failure]:
        """A trial has begun to report on the node; return the trials that waited and that it is not to blame for."""
        self._sound.add(node)
        return {} if node in self.left else self.clear(node)

    def clear(self, node: str) -> dict[int, Failure]:
        """Forget what failed on the node; return the trials that waited and that it is not to blame for."""
        return self._judged(self._strikes.pop(node, ()))

    def acquit(self, trial: TrialRecord) -> list[LeftNode]:
        """Use the nodes again that were left because of a trial that has failed in the same way elsewhere; return
        them."""
        blamed = [node for node in self.left if trial.number in self._strikes.get(node, ())]
        return self._use_again(blamed if _at_the_start(trial) else [])

    def acquit_all(self) -> list[LeftNode]:
        """Use all nodes again that are not proved to lack something, because no other is there; return them."""
        return self._use_again([node for node, left in self.left.items() if not left.proved])

    def doubtful(self) -> list[Place]:
        """The nodes with trials that still wait. If there is nothing else to do, they are to run elsewhere."""
        return [self._places[node] for node, numbers in self._strikes.items() if self.waiting.keys() & set(numbers)]

    def _use_again(self, nodes: Iterable[str]) -> list[LeftNode]:
        again = [node for node in nodes if not self.left[node].proved]
        for node in again:
            self._strikes.pop(node, None)
        return [self.left.pop(node) for node in again]

    def _judged(self, numbers: Iterable[int]) -> dict[int, Failure]:
        """Remove trials from `waiting`."""
        return {number: self.waiting.pop(number) for number in numbers if number in self.waiting}


def _at_the_start(trial: TrialRecord) -> bool:
    """Whether the current attempt has reported nothing."""
    return trial.attempts[-1].resumed_after == len(trial.epochs)
