"""Problems collected and worded: pydantic's errors as `Problem`s on lines, and the list a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.errors import UsageError
from hpo.text import printable, show

MAX_SHOWN = 100


def format_problems(problems: Sequence[Problem], source: str) -> str:
    """Plain text, three lines per problem at most, ordered by line: where and what, the value, the hint."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    ordered = sorted(problems, key=lambda problem: (problem.line or 0, problem.path))
    blocks = [_format(problem, printable(source)) for problem in ordered[:MAX_SHOWN]]
    if len(ordered) > MAX_SHOWN:
        blocks.append(f"... and {len(ordered) - MAX_SHOWN} more")
    return "\n".join([f"{printable(source)}: {count}", *blocks])


def _format(problem: Problem, source: str) -> str:
    where = f"{source}:{problem.line}" if problem.line else "override" if problem.path else source
    path = f" {printable(problem.path)}:" if problem.path else ""
    value = f" (is {show(problem.value)})" if _worth_showing(problem.value) else ""
    hint = f"\n    {printable(problem.hint)}" if problem.hint else ""
    return f"  {where}:{path} {printable(problem.rule)}{value}{hint}"


def _worth_showing(value: Any) -> bool:
    return value is not None and not (isinstance(value, dict) and value)


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


class SpecificationError(UsageError):
    """A specification or exported configuration breaks rules. `problems` holds all of them, by line."""

    def __init__(self, problems: Iterable[Problem], source: str = "specification") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.source = source
        """The file, shipped name or other origin of the text, as the person gave it."""
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        return format_problems(self.problems, self.source)
