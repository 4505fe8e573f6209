"""Problems collected and worded: pydantic's errors as `Problem`s on lines, and the list a person reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from hpo.errors import Problem
from hpo.redact import redact
from hpo.validation.yaml_reader import shorten

MAX_SHOWN = 100


def close(word: str, known: Iterable[str]) -> str | None:
    """`did you mean ...?` with the nearest of `known`, or None where none is near."""
    if len(word) > 100:  # comparing is quadratic in the length, and nobody means a word that long
        return None
    best = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {best[0]}?" if best else None


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


def show(value: Any) -> str:
    """A value as the person wrote it, nearly: short, on one line, no control characters, no passwords."""
    names: dict[Any, str] = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return names[value]
    return shorten(redact(ascii_safe(value)))


def ascii_safe(value: Any) -> str:
    """`repr` that never holds a control character."""
    return printable(repr(value))


def printable(text: str) -> str:
    """`text` with control characters escaped: a file must not be able to steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
