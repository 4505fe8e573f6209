"""Tools that ask for evaluations, each a configuration and a number of epochs, as trials that pause and go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reports.benchmarks.search.peers.protocol import CONTINUE, PAUSE, STOP, Answer, PeerError, Start

MAX_REPEATS = 1000
"""Evaluations one after the other whose values are known. A tool that asks for more has nothing else to ask for."""


@dataclass(frozen=True)
class Job:
    """An evaluation that a tool asks for."""

    handle: Any
    """By which the tool knows it."""
    params: Mapping[str, float]
    epochs: int


@dataclass
class _Trained:
    trial: int
    values: list[float] = field(default_factory=list)
    job: Job | None = None
    """What it is being trained for."""


class Jobs:
    """A `Peer` from two functions of a tool.

    A configuration that comes again with more epochs goes on where it was, as with a training that keeps checkpoints.
    One that has been trained that far is not trained again: the tool gets its value at once. If a configuration is
    in training, the same one is trained beside it as a trial of its own.

    Args:
        ask: returns the next evaluation, or None if a result must come first.
        tell: takes the handle and the value after the last epoch of an evaluation.
    """

    def __init__(self, epochs: int, ask: Callable[[], Job | None], tell: Callable[[Any, float], None]) -> None:
        self._epochs, self._ask, self._tell = epochs, ask, tell
        self._trials: list[_Trained] = []
        self._by_params: dict[tuple[tuple[str, float], ...], _Trained] = {}

    def ask(self, spent: float) -> Start | None:
        for _ in range(MAX_REPEATS):
            job = self._ask()
            if job is None:
                return None
            trained = self._trained(job)
            if len(trained.values) < job.epochs:
                trained.job = job
                return Start(trained.trial, job.params, job.epochs)
            self._tell(job.handle, trained.values[job.epochs - 1])
        raise PeerError(f"{MAX_REPEATS} evaluations in a row were of configurations that had been trained")

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        trained = self._trials[trial]
        assert trained.job is not None
        trained.values.append(value)
        if epoch < trained.job.epochs:
            return CONTINUE
        job, trained.job = trained.job, None
        self._tell(job.handle, value)
        return PAUSE if epoch < self._epochs else STOP

    def _trained(self, job: Job) -> _Trained:
        key = tuple(sorted(job.params.items()))
        known = self._by_params.get(key)
        if known is not None and known.job is None:
            return known
        new = self._by_params[key] = _Trained(len(self._trials))
        self._trials.append(new)
        return new
