"""Errors as JSON, for a program that asked for JSON: it finds one document on standard output, whatever happens."""

from __future__ import annotations

import sys
from typing import Any

from hpo.cli.programs.documents import OPTION, show


def wanted() -> bool:
    """Whether the command line asks for JSON. Read from the words: an error may come before they are understood."""
    return OPTION in sys.argv[1:]


def refuse(error: BaseException, message: str, exit_code: int, advice: str | None = None) -> None:
    """Print the error as a document if JSON is wanted. People and logs have it on standard error in any case."""
    if wanted():
        content = {"error": type(error).__name__, "message": message, "advice": advice, "exit_code": exit_code}
        show("error", {**content, "problems": _problems(error)})


def refuse_usage(end: SystemExit) -> None:
    """The same for what the reader of the command line refuses; it has told people already, and ends the program."""
    refused = end.__context__
    if isinstance(end.code, int) and hasattr(refused, "format_message"):
        assert refused is not None
        refuse(refused, refused.format_message(), end.code)


def _problems(error: BaseException) -> list[dict[str, Any]]:
    """The broken rules of a specification, without their values, which may be secrets."""
    return [
        {"line": problem.line, "path": problem.path, "rule": problem.rule, "hint": problem.hint}
        for problem in getattr(error, "problems", ())
    ]
