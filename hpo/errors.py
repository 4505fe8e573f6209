"""Errors that the tool raises on purpose, each with the exit code of the command that met it.

    HpoError                    1
    ├── UsageError              2   the command line asks for something that does not exist or make sense
    │   └── SpecificationError  2   a YAML file or an override breaks rules; holds every one of them
    ├── NoTrialSucceeded        3   the study ended, and every trial of it failed
    └── InfrastructureError     4   Ray, a database, a disk or a tracking server failed; resumable

An error's text is fit to show a person: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Problem:
    """One broken rule of a specification."""

    line: int | None
    """Line in the file, from 1; None for an override of the command line and for an unreadable file."""
    path: str
    """Dotted path, e.g. `space.train.lr.low` or `enqueue[0].train.lr`; empty for the file as a whole."""
    value: Any
    """The value found there; None also where there is none."""
    rule: str
    """What it must be, e.g. `must be > 0`."""
    hint: str | None = None
    """`did you mean ...?`, or another remedy."""


class HpoError(Exception):
    """Base of every error raised on purpose."""

    exit_code: ClassVar[int] = 1
    advice: str | None = None
    """What to type next, where there is something; shown last."""


class UsageError(HpoError):
    """The command line names something that does not exist, or options that exclude each other."""

    exit_code = 2


class SpecificationError(UsageError):
    """A specification or exported configuration breaks rules. `problems` holds all of them, by line."""

    def __init__(self, problems: Iterable[Problem], source: str = "specification") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.source = source
        """The file, shipped name or other origin of the text, as the person gave it."""
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        from hpo.validation.problems import format_problems  # that module needs this one

        return format_problems(self.problems, self.source)


class NoTrialSucceeded(HpoError):
    """Every trial of the study failed; the text says why the first one did."""

    exit_code = 3


class InfrastructureError(HpoError):
    """Ray, a database, a disk or a tracking server failed. The study is resumable."""

    exit_code = 4
