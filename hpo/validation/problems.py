"""The broken rules of a specification, and the error that lists them for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpo.errors import UsageError
from hpo.text import one_line, show

MAX_SHOWN = 100
SECRET = ("notify",)
"""Sections whose values no error shows: a webhook's address, or a command with a token, may stand anywhere in them."""
UNKNOWN_KEY = "unknown key"


def format_problems(problems: Sequence[Problem], source: str) -> str:
    """Plain text, one line per problem, ordered by the line in the file: where, what, the rule, the remedy."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    ordered = sorted(problems, key=lambda problem: (problem.line or 0, problem.path))
    blocks = [_format(problem, one_line(source)) for problem in ordered[:MAX_SHOWN]]
    if len(ordered) > MAX_SHOWN:
        blocks.append(f"... and {len(ordered) - MAX_SHOWN} more")
    return "\n".join([f"{one_line(source)}: {count}", *blocks])


def _format(problem: Problem, source: str) -> str:
    overridden = problem.line is None and problem.path
    where = f"{source}:{problem.line}" if problem.line else "override" if overridden else source
    hint = f"; {problem.hint}" if problem.hint else ""
    return f"  {where}: {one_line(_sentence(problem) + hint)}"


def _sentence(problem: Problem) -> str:
    """What is wrong where. The value of an unknown key says nothing."""
    if problem.rule == UNKNOWN_KEY:
        return f"{UNKNOWN_KEY} {problem.path}"
    if not problem.path:
        return problem.rule
    secret = problem.path.partition(".")[0] in SECRET
    value = f" (is {show(problem.value)})" if _worth_showing(problem.value) and not secret else ""
    return f"{problem.path}: {problem.rule}{value}"


def _worth_showing(value: Any) -> bool:
    return value is not None and not (isinstance(value, dict) and value)


@dataclass(frozen=True)
class Problem:
    """One broken rule of a specification."""

    line: int | None
    """Line in the file, from 1; None for an override of the command line and for an unreadable file; 0 for a
    specification without lines."""
    path: str
    """Dotted path, e.g. `space.train.lr.low` or `enqueue[0].train.lr`; empty for the whole file."""
    value: Any
    """The value at the path; None also if there is no value."""
    rule: str
    """The rule that the value breaks, e.g. `must be > 0`."""
    hint: str | None = None
    """`did you mean ...?`, or another remedy."""

    def without_line(self) -> Problem:
        """The same of a specification that is no text, so that it has no lines to name."""
        return self if self.line is None else replace(self, line=0)


class SpecificationError(UsageError):
    """A specification or exported configuration breaks rules; `problems` are all of them."""

    def __init__(self, problems: Iterable[Problem], source: str = "specification") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.source = source
        """Where the text comes from, e.g. a file or a shipped name, as the person gave it."""
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        return format_problems(self.problems, self.source)
