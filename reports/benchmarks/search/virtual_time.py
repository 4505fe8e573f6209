"""Studies in virtual time: workers train on learning curves, and whatever searches is asked and told."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reports.benchmarks.search.lcbench import EPOCHS, Curve, Task
from reports.benchmarks.search.peers.protocol import CONTINUE, STOP, Peer, PeerError, Start

WORKERS = 4
FULL_TRAININGS = 16
"""Budget, in median full trainings."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Incumbents:
    """The best configurations of a run, one after the other."""

    times: Array
    """Times at which the incumbent changed, as shares of the budget."""
    regrets: Array
    """Normalised regret from each of these times."""

    def regret_at(self, share: float) -> float:
        """Return the regret of the incumbent at a share of the budget; 1.0 before there is an incumbent."""
        index = int(np.searchsorted(self.times, share, side="right")) - 1
        return float(self.regrets[index]) if index >= 0 else 1.0


@dataclass(frozen=True)
class Run:
    """One simulated study. The score of a configuration is its value after the last epoch."""

    known: Incumbents
    """Those with the best value so far at any epoch: what the search knows."""
    delivered: Incumbents
    """The best complete trials so far: what a user gets."""
    trials: int
    suggestion_seconds: Array
    """Processor time of each suggestion, seconds. Other load on the machine does not change it."""

    def regret_at(self, share: float) -> float:
        """Return the known regret at a share of the budget."""
        return self.known.regret_at(share)


class Best:
    """The best value so far, and when it changed."""

    def __init__(self) -> None:
        self._value = -np.inf
        self._changes: list[tuple[float, float]] = []

    def see(self, value: float, share: float, regret: float) -> None:
        """A value at a share of the budget, and the regret of the configuration that has it."""
        if value > self._value:
            self._value = value
            self._changes.append((share, regret))

    def incumbents(self) -> Incumbents:
        times, regrets = np.array(self._changes).reshape(-1, 2).T
        return Incumbents(times, regrets)


@dataclass
class _Training:
    """A trial: its curve, how far it has come, and how far it goes before the search is asked again."""

    params: Mapping[str, float]
    curve: Curve
    epoch: int = 0
    until: int = 0
    running: bool = False
    stopped: bool = False


@dataclass
class _Study:
    task: Task
    peer: Peer
    budget: float
    """Seconds on the clock."""
    spend: Callable[[int, float, float], None] | None
    trials: dict[int, _Training] = field(default_factory=dict)
    queue: list[tuple[float, int]] = field(default_factory=list)
    """Ends of the running epochs: (time, trial)."""
    known: Best = field(default_factory=Best)
    delivered: Best = field(default_factory=Best)
    waits: list[float] = field(default_factory=list)

    def ask(self, now: float) -> bool:
        """Give a free worker a trial. Return whether there was one."""
        before = time.process_time()
        start = self.peer.ask(now / self.budget)
        if start is None:
            return False
        if start.trial not in self.trials:
            self.waits.append(time.process_time() - before)
            self.trials[start.trial] = _Training(start.params, self.task.curve(start.params))
        training = self.trials[start.trial]
        _check(start, training)
        training.running, training.until = True, start.until
        self._push(now, start.trial)
        return True

    def end_epoch(self) -> tuple[float, bool]:
        """Tell the next value. Return its time, and whether its worker is free then."""
        now, trial = heapq.heappop(self.queue)
        training = self.trials[trial]
        training.epoch += 1
        value = float(training.curve.accuracy[training.epoch - 1])
        regret = self.task.regret(float(training.curve.accuracy[-1]))
        self.known.see(value, now / self.budget, regret)
        if training.epoch == EPOCHS:
            self.delivered.see(value, now / self.budget, regret)
        if self.spend is not None:
            self.spend(trial, training.curve.epoch_seconds(training.epoch), self.budget - now)
        answer = self.peer.tell(trial, training.epoch, value)
        if answer == CONTINUE:
            if training.epoch == training.until:
                raise PeerError(f"trial {trial} was to continue beyond its epoch {training.until}")
            self._push(now, trial)
            return now, False
        training.running, training.stopped = False, answer == STOP
        return now, True

    def _push(self, now: float, trial: int) -> None:
        training = self.trials[trial]
        # A paused trial goes on from its checkpoint, at no cost.
        heapq.heappush(self.queue, (now + training.curve.epoch_seconds(training.epoch + 1), trial))


def _check(start: Start, training: _Training) -> None:
    if training.running or training.stopped:
        raise PeerError(f"trial {start.trial} was asked for, but it {'runs' if training.running else 'was stopped'}")
    if dict(training.params) != dict(start.params):
        raise PeerError(f"trial {start.trial} came again with another configuration")
    if not training.epoch < start.until <= EPOCHS:
        raise PeerError(
            f"trial {start.trial} was to train until epoch {start.until}; it has {training.epoch} of {EPOCHS} epochs"
        )


def drive(
    task: Task,
    peer: Peer,
    full_trainings: float = FULL_TRAININGS,
    workers: int = WORKERS,
    spend: Callable[[int, float, float], None] | None = None,
) -> Run:
    """Run a study until the budget is spent. What is running then is lost.

    Args:
        spend: gets trial, seconds of its epoch and seconds until the budget is spent, before the value is told.

    Raises:
        PeerError: The peer broke a rule of the protocol, or has nothing to train while nothing runs.
    """
    study = _Study(task, peer, full_trainings * task.full_training / workers, spend)
    now, free = 0.0, workers
    while True:
        while free and study.ask(now):
            free -= 1
        if not study.queue:
            raise PeerError("it has nothing to train, and nothing runs")
        if study.queue[0][0] > study.budget:
            break
        now, ended = study.end_epoch()
        free += ended
    return Run(study.known.incumbents(), study.delivered.incumbents(), len(study.trials), np.array(study.waits))
