"""`dotted.key=value` on the command line, laid over a document before it is validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpo.text import close
from hpo.validation.problems import Problem
from hpo.validation.settings import EXTRA, settings
from hpo.validation.yaml_reader import Document, Path, dotted, read


def apply(document: Document, overrides: Sequence[str]) -> None:
    """Set each override in `document.data`; what cannot be set goes to `document.problems`.

    The value is YAML: `train.epochs=20`, `enqueue=[]`, `space.train.lr={type: float, low: 1e-5, high: 1e-2}`.
    `space.NAME=null` takes a parameter out of the space.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        problem = _apply_one(document, key.strip(), text) if equals else _malformed(override)
        if problem is not None:
            document.problems.append(problem)


def _malformed(override: str) -> Problem:
    return Problem(None, override, None, "is no override", "write it as dotted.key=value")


def _apply_one(document: Document, key: str, text: str) -> Problem | None:
    keys = key.split(".")
    if not all(keys):
        return _malformed(f"{key}={text}")
    value = read(text)
    if value.problems:
        return Problem(None, key, text, value.problems[0].rule, value.problems[0].hint)
    if not isinstance(document.data, dict):
        return None  # that is a problem of its own, and will be reported
    path: Path = ()
    holder: Any = document.data
    while True:
        part, keys = _next(holder, path, keys)
        path = (*path, part)
        if not keys:
            break
        if isinstance(holder, dict) and part not in holder:
            holder[part] = {}
            document.overridden.add(path)
        holder = holder[part]
        if not isinstance(holder, dict | list):
            return Problem(None, key, text, f"cannot be set: {dotted(path)} holds no keys")
        if isinstance(holder, list) and keys[0] not in map(str, range(len(holder))):
            hint = f"use a number below {len(holder)}" if holder else None
            return Problem(None, key, text, f"cannot be set: {dotted(path)} has no item {keys[0]}", hint)
    if value.data is None and path[:1] == ("space",) and len(path) == 2:
        if path[1] not in holder:
            return Problem(None, key, text, "is not in the space", close(str(path[1]), holder))
        del holder[part]
    else:
        holder[part] = value.data
    _forget_lines(document, path)
    return None


def _next(holder: Any, path: Path, keys: list[str]) -> tuple[str | int, list[str]]:
    """The first part of `keys` in `holder`, and the rest. Names of parameters have dots themselves."""
    if isinstance(holder, list):
        return int(keys[0]), keys[1:]
    prefixes = {".".join(keys[:length]): length for length in range(len(keys), 0, -1)}
    for name, length in prefixes.items():
        if name in holder:
            return name, keys[length:]
    if path == ("space",) or path[:1] == ("enqueue",) or path[-1:] == ("when",):
        for name, length in prefixes.items():
            if name in settings() or (name.startswith(EXTRA) and length == 2):
                return name, keys[length:]
        return ".".join(keys), []
    return keys[0], keys[1:]


def _forget_lines(document: Document, path: Path) -> None:
    """What the file had at `path` and below is gone."""
    for known in [known for known in document.lines if known[: len(path)] == path]:
        del document.lines[known]
    document.broken = {known for known in document.broken if known[: len(path)] != path}
    document.overridden.add(path)
