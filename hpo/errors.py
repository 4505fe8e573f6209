"""Errors that the tool raises on purpose, each with the exit code of the command that met it.

    HpoError                    1
    ├── UsageError              2   the command line asks for something that does not exist or make sense
    │   └── SpecificationError  2   a YAML file or an override breaks rules; holds every one of them
    ├── NoTrialSucceeded        3   the study ended, and every trial of it failed
    └── InfrastructureError     4   Ray, a database, a disk or a tracking server failed; resumable

An error's text is fit to show a person: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class HpoError(Exception):
    """Base of every error raised on purpose."""

    exit_code: ClassVar[int] = 1
    advice: str | None = None
    """What to type next, where there is something; shown last."""


class UsageError(HpoError):
    """The command line names something that does not exist, or options that exclude each other."""

    exit_code = 2


class NoTrialSucceeded(HpoError):
    """Every trial of the study failed; the text says why the first one did."""

    exit_code = 3


class InfrastructureError(HpoError):
    """Ray, a database, a disk or a tracking server failed. The study is resumable."""

    exit_code = 4
