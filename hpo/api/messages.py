"""What the caller's process and the process that drives a study tell each other: plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hpo.errors import HpoError
from hpo.home import Home

# ------------------------------------------------------------------------------------------ from the caller


@dataclass(frozen=True)
class Run:
    """Create a study and run it."""

    home: Home
    verbose: bool
    source: str
    """A YAML file or the name of a shipped study; what error messages call `text`, if there is one."""
    text: str | None
    """The specification itself, as YAML."""
    overrides: tuple[str, ...]
    """`dotted.key=value`, as on the command line."""
    resume: bool
    """Whether to continue the study if it is recorded already."""


@dataclass(frozen=True)
class Resume:
    """Continue a study."""

    home: Home
    verbose: bool
    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Confirm:
    """Train the best configurations of a study again with new seeds."""

    home: Home
    verbose: bool
    name: str
    top: int
    seeds: int


Request: TypeAlias = Run | Resume | Confirm

# -------------------------------------------------------------------------------------------- to the caller


@dataclass(frozen=True)
class Line:
    """Something to show to a person."""

    text: str
    headline: str | None = None
    """How far the study is, in one line; None before it has begun."""


@dataclass(frozen=True)
class Begun:
    """The study is recorded: from now on it can be resumed."""

    name: str


@dataclass(frozen=True)
class Done:
    """The last message: the study has ended and is in the ledger."""

    name: str


@dataclass(frozen=True)
class Failed:
    """The last message: the study did not end well, or did not begin."""

    error: HpoError


Message: TypeAlias = Line | Begun | Done | Failed
