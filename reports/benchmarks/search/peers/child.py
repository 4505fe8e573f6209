"""A search in the environment of its tool, as a child process of the benchmark.

    python -m reports.benchmarks.search.peers.child MODULE:FUNCTION PACKAGE

The first line of the input is the problem, answered with the version of the package; every other one asks or tells.
Each has one line of answer. What the tool
prints goes to the standard error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any, TextIO

from reports.benchmarks.search.peers.protocol import Parameter, Peer, Problem


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # for what the tool prints
    try:
        _serve(sys.argv[1], sys.argv[2], answers)
    except Exception as error:
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        raise
    return 0


def _serve(factory: str, package: str, answers: TextIO) -> None:
    peer = make(factory, problem(json.loads(sys.stdin.readline())))
    _say(answers, {"version": version(package)})
    for line in sys.stdin:
        _say(answers, _answer(peer, json.loads(line)))


def make(factory: str, told: Problem) -> Peer:
    """Return the search of a factory, "MODULE:FUNCTION"."""
    module, _, function = factory.partition(":")
    peer: Peer = getattr(import_module(module), function)(told)
    return peer


def problem(document: dict[str, Any]) -> Problem:
    """The problem from its JSON."""
    return Problem(**{**document, "parameters": tuple(Parameter(**one) for one in document["parameters"])})


def _answer(peer: Peer, message: dict[str, Any]) -> dict[str, Any]:
    if "tell" in message:
        return {"answer": peer.tell(*message["tell"])}
    start = peer.ask(message["ask"])
    return {"start": None if start is None else dataclasses.asdict(start)}


def _say(answers: TextIO, document: dict[str, Any]) -> None:
    answers.write(json.dumps(document) + "\n")
    answers.flush()


if __name__ == "__main__":
    raise SystemExit(main())
