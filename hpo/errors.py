"""The errors that the tool raises on purpose, each with the exit code of the command that it ends.

    HpoError                    1
    ├── UsageError              2   the command line names something unknown, or options that exclude each other
    │   └── SpecificationError  2   a YAML file or an override breaks rules; the error lists all of them
    ├── NoTrialSucceeded        3   the study ended and every trial failed
    ├── Interrupted       128 + n   signal n ended the study in order; the study can be resumed
    └── InfrastructureError     4   Ray, a database, a disk or a tracking server failed; the study can be resumed

The text of an error is written for users. It says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import signal
from typing import Any, ClassVar


class HpoError(Exception):
    """The base class of all errors that are raised on purpose."""

    exit_code: ClassVar[int] = 1
    advice: str | None = None
    """What to type next, shown last; None if there is nothing to type."""


class UsageError(HpoError):
    """The command line names something that does not exist, or options that exclude each other."""

    exit_code = 2


class NoTrialSucceeded(HpoError):
    """Every trial of the study failed. The text says why the first one failed."""

    exit_code = 3


class Interrupted(HpoError):
    """A signal ended the study in order. Resumable; the command exits with 128 + the signal's number."""

    def __init__(self, number: int, by: str | None = None) -> None:
        """
        Args:
            by: who asked for it from elsewhere, as `user@host`; None for a signal.
        """
        super().__init__(f"stopped by {by}" if by else f"interrupted by {signal.Signals(number).name}")
        self.number, self.by = number, by
        self.status = 128 + number

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by the number, not by the text."""
        return type(self), (self.number, self.by), {"advice": self.advice}


class InfrastructureError(HpoError):
    """Ray, a database, a disk or a tracking server failed. The study can be resumed."""

    exit_code = 4
