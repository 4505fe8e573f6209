"""`dotted.key=value` on the command line, set in a document before it is validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpo.text import close, one_line, shorten
from hpo.validation.problems import Problem
from hpo.validation.settings import EXTRA, settings
from hpo.validation.yaml_reader import Document, Path, dotted, read

UNTOLD = {"study", "description", "baseline", "storage", "tracking", "ray"}
"""Sections of which a description does not speak: names, and places of records, which may hold passwords."""


def apply(document: Document, overrides: Sequence[str]) -> None:
    """Set each override in `document.data`; one that cannot be set is added to `document.problems`.

    The value is YAML: `train.epochs=20`, `enqueue=[]`, `space.train.lr={type: float, low: 1e-5, high: 1e-2}`.
    `space.NAME=null` removes a parameter from the space.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        problem = _apply_one(document, key.strip(), text) if equals else _malformed(override)
        if problem is not None:
            document.problems.append(problem)
    _describe(document, overrides)


def _describe(document: Document, overrides: Sequence[str]) -> None:
    """Name the changes in a description that came with the document, which may speak of what they change."""
    description = document.data.get("description") if isinstance(document.data, dict) else None
    told = [override for override in overrides if override.partition("=")[0].strip().split(".")[0] not in UNTOLD]
    if not told or not description or not isinstance(description, str) or ("description",) in document.overridden:
        return
    changed = ", ".join(shorten(one_line(override)) for override in told)
    document.data["description"] = f"{description} (changed: {changed})"


def _malformed(override: str) -> Problem:
    return Problem(None, override, None, "is not an override", "write KEY=VALUE, e.g. train.epochs=20")


def _apply_one(document: Document, key: str, text: str) -> Problem | None:
    keys = key.split(".")
    if not all(keys):
        return _malformed(f"{key}={text}")
    value = read(text)
    if value.problems:
        return Problem(None, key, text, value.problems[0].rule, value.problems[0].hint)
    if not isinstance(document.data, dict):
        return None  # `partial_model` reports it
    path: Path = ()
    section: Any = document.data
    while True:
        part, keys = _next(section, path, keys)
        path = (*path, part)
        if not keys:
            break
        if isinstance(section, dict) and part not in section:
            section[part] = {}
            document.overridden.add(path)
        section = section[part]
        if not isinstance(section, dict | list):
            return Problem(None, key, text, f"cannot be set: {dotted(path)} is a value, not a section")
        if isinstance(section, list) and keys[0] not in map(str, range(len(section))):
            hint = f"items are numbered 0 to {len(section) - 1}" if section else None
            return Problem(None, key, text, f"cannot be set: {dotted(path)} has no item {keys[0]}", hint)
    if value.data is None and path[:1] == ("space",) and len(path) == 2:
        if path[1] not in section:
            return Problem(None, key, text, "is not in the space", close(str(path[1]), section))
        del section[part]
    else:
        section[part] = value.data
    _forget_lines(document, path)
    return None


def _next(section: Any, path: Path, keys: list[str]) -> tuple[str | int, list[str]]:
    """The key of `section` that `keys` begin with, and the rest of them. Names of parameters contain dots."""
    if isinstance(section, list):
        return int(keys[0]), keys[1:]
    prefixes = {".".join(keys[:length]): length for length in range(len(keys), 0, -1)}
    for name, length in prefixes.items():
        if name in section:
            return name, keys[length:]
    if path == ("space",) or path[:1] == ("enqueue",) or path[-1:] == ("when",):
        for name, length in prefixes.items():
            if name in settings() or (name.startswith(EXTRA) and length == 2):
                return name, keys[length:]
        return ".".join(keys), []
    return keys[0], keys[1:]


def _forget_lines(document: Document, path: Path) -> None:
    """Lines and problems at `path` and below belong to the value that was replaced."""
    for replaced in [place for place in document.lines if place[: len(path)] == path]:
        del document.lines[replaced]
    document.broken = {place for place in document.broken if place[: len(path)] != path}
    document.overridden.add(path)
