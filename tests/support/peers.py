"""Searches for the tests of the benchmark with other tools, as their adapters would be."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping

from reports.benchmarks.search.peers.protocol import CONTINUE, PAUSE, STOP, Answer, Peer, Problem, Start


class Scripted:
    """A search that asks for given trials, and knows where to pause and where to stop."""

    def __init__(self, starts: Iterable[Start | None], stops: Mapping[int, int] | None = None) -> None:
        self._starts = iter(starts)
        self._stops = stops or {}
        self._until: dict[int, int] = {}
        self.told: list[tuple[int, int, float]] = []

    def ask(self, spent: float) -> Start | None:
        start = next(self._starts, None)
        if start is not None:
            self._until[start.trial] = start.until
        return start

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        self.told.append((trial, epoch, value))
        if epoch == self._stops.get(trial):
            return STOP
        return PAUSE if epoch == self._until[trial] else CONTINUE


class _Endless:
    """Full trainings of one configuration."""

    def __init__(self) -> None:
        self._trials = 0

    def ask(self, spent: float) -> Start:
        self._trials += 1
        return Start(self._trials - 1, {"x": 0.5}, 50)

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        return STOP if epoch == 50 else CONTINUE


class _Dying(_Endless):
    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        print("the last words", flush=True)
        os._exit(3)


class _Hanging(_Endless):
    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        time.sleep(600)
        return STOP


class _Raising(_Endless):
    def ask(self, spent: float) -> Start:
        raise ValueError("no more ideas")


class _Talking(_Endless):
    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        print(f"trial {trial} has {value}")
        return super().tell(trial, epoch, value)


def dying(problem: Problem) -> Peer:
    return _Dying()


def hanging(problem: Problem) -> Peer:
    return _Hanging()


def raising(problem: Problem) -> Peer:
    return _Raising()


def talking(problem: Problem) -> Peer:
    return _Talking()
