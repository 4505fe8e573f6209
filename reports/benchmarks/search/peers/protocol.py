"""What the simulator and a search say to each other. It imports nothing but the standard library.

A search is asked for a trial whenever a worker is free, and told every value. Trials may be paused and asked for again.
A search in another environment is a child process: messages are lines of JSON on its standard input and output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Answer = Literal["continue", "pause", "stop"]
CONTINUE: Answer = "continue"
PAUSE: Answer = "pause"
"""The worker is free. The trial may be asked for again, and goes on where it was."""
STOP: Answer = "stop"
"""The worker is free. The trial never comes back."""


class PeerError(Exception):
    """A search cannot be run, or has broken a rule. The text is the reason, for a table."""


@dataclass(frozen=True)
class Start:
    """A trial that a free worker begins, or goes on with."""

    trial: int
    """From 0. A number that is new is a new trial."""
    params: Mapping[str, float]
    """By name. Those of a paused trial have not changed."""
    until: int
    """Its last epoch before a decision: there the search answers `PAUSE` or `STOP`, unless it has done so before."""


@dataclass(frozen=True)
class Parameter:
    """One parameter, with a range that includes its bounds."""

    name: str
    low: float
    high: float
    log: bool
    integer: bool


@dataclass(frozen=True)
class Problem:
    """What every search is told before it begins. The objective is an accuracy, 0 to 1, to be maximised."""

    parameters: tuple[Parameter, ...]
    epochs: int
    workers: int
    seed: int


class Peer(Protocol):
    """A search: what an adapter makes of a tool."""

    def ask(self, spent: float) -> Start | None:
        """Return a trial for a free worker, or None if a value of a running trial must come first.

        Args:
            spent: share of the budget that has passed, 0 to 1.
        """
        ...

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        """Take the value of the trial's epoch (from 1), and say how its worker goes on."""
        ...
