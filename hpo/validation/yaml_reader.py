"""YAML 1.2 text to plain data with line numbers.

The reader works on the parser's events instead of constructed objects. Events keep the line of every key and show both
of two equal keys. They also show what a specification never needs and the reader refuses: tags, anchors, aliases, deep
nesting, infinities, integers beyond 64 bits. (ruamel's `compose` is no replacement: its nodes do not show whether a tag
was written, and it stops at an alias.)
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from hpo.text import first_line, shorten
from hpo.validation.problems import Problem

Path: TypeAlias = "tuple[str | int, ...]"
MAX_BYTES = 128 * 1024
MAX_DEPTH = 20

# Core schema of YAML 1.2.2, section 10.3.2. Any other unquoted scalar is text.
_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass
class Document:
    """Plain data (mappings, lists, scalars) and the line of each part."""

    data: Any
    lines: dict[Path, int] = field(default_factory=dict)
    """Line of each key or list item, from 1."""
    problems: list[Problem] = field(default_factory=list)
    """Errors of the text as YAML."""
    broken: set[Path] = field(default_factory=set)
    """Paths that were reported; their values are missing from `data`."""
    overridden: set[Path] = field(default_factory=set)
    """Paths that an override set; they have no line."""

    def line(self, path: Path) -> int | None:
        """Line of `path` or of the nearest part around it; None if an override set it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return None
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1

    def get(self, path: Path) -> Any:
        """The value at `path`; None if there is no value."""
        value = self.data
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def dotted(path: Path) -> str:
    """`("enqueue", 0, "train.lr")` as `enqueue[0].train.lr`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def read(text: str) -> Document:
    """Parse one document, as far as it can be parsed. Its `problems` say what is wrong."""
    document = Document(data=None)
    try:
        _Reader(document, _events(text)).read()
    except _Stop as stop:
        line, rule = stop.args
        document.problems.append(Problem(line, "", None, rule))
    return document


def _events(text: str) -> Iterator[Any]:
    try:
        text.encode()  # lone surrogates are no text
        yield from YAML(typ="safe", pure=True).parse(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Stop(mark.line + 1 if mark else 1, f"is not YAML: {error.problem or error.context}") from error
    except Exception as error:
        # The parser raises exceptions of many kinds for strange text, e.g. OverflowError for "\UFFFFFFFF".
        raise _Stop(1, f"is not YAML: {shorten(first_line(error))}") from error


class _Skip(Exception):
    """The value cannot be used, and its problem is recorded."""


class _Stop(Exception):
    """The rest of the text cannot be read: (line, rule)."""


class _Reader:
    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self.document = document
        self.events = events

    def read(self) -> None:
        documents = 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.report(event, (), None, "contains a second YAML document; a file must have one")
                    return
                try:
                    self.document.data = self.value(next(self.events), ())
                except _Skip:
                    return

    def report(self, event: Any, path: Path, value: Any, rule: str, hint: str | None = None) -> None:
        self.document.problems.append(Problem(event.start_mark.line + 1, dotted(path), value, rule, hint))
        self.document.broken.add(path)

    def value(self, event: Any, path: Path) -> Any:
        if isinstance(event, AliasEvent):
            self.report(event, path, f"*{event.anchor}", "aliases are not allowed", "write the value out")
            raise _Skip
        if event.anchor is not None:
            self.report(event, path, f"&{event.anchor}", "anchors are not allowed", "write the value out each time")
        if event.tag is not None:
            self.report(event, path, str(event.tag), "tags are not allowed", "remove the tag")
        if len(path) > MAX_DEPTH:
            raise _Stop(event.start_mark.line + 1, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, MappingStartEvent):
            return self.mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self.sequence(path)
        return self.scalar(event, path)

    def mapping(self, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not _closes(event := next(self.events)):
            key, usable = self.key(event, path)
            here = (*path, key)
            if usable and here in self.document.lines:
                first = self.document.lines[here]
                rule = f"is given twice; the first is on line {first}"
                # The first value stays in use, so `here` is not broken.
                self.document.problems.append(
                    Problem(event.start_mark.line + 1, dotted(here), None, rule, "remove one")
                )
                usable = False
            self.document.lines.setdefault(here, event.start_mark.line + 1)
            try:
                value = self.value(next(self.events), here)
            except _Skip:
                continue
            if usable:
                result[key] = value
        return result

    def key(self, event: Any, path: Path) -> tuple[str, bool]:
        """The key's text, and whether it is usable as a key."""
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            raise _Stop(event.start_mark.line + 1, "a key is a list or mapping; keys must be plain text")
        if isinstance(event, ScalarEvent) and event.anchor is None and event.tag is None and _is_text(event.value):
            value = event.value if event.style else resolve(event.value)
            if isinstance(value, str):
                return value, True
        shown = ascii(getattr(event, "value", event.anchor))[1:-1]
        self.report(event, (*path, shown), shown, "keys must be plain text", "put the key in quotes")
        return shown, False

    def sequence(self, path: Path) -> list[Any]:
        result: list[Any] = []
        while not _closes(event := next(self.events)):
            here = (*path, len(result))
            self.document.lines[here] = event.start_mark.line + 1
            try:
                result.append(self.value(event, here))
            except _Skip:
                result.append(None)  # keeps the numbers of the items that follow
        return result

    def scalar(self, event: Any, path: Path) -> Any:
        if not _is_text(event.value):
            self.report(event, path, event.value, "contains a control character, or half of a surrogate pair")
            raise _Skip
        if event.style:  # quoted or block text
            return str(event.value)
        value = resolve(event.value)
        if isinstance(value, float) and not math.isfinite(value):
            self.report(event, path, event.value, "must be a finite number")
            raise _Skip
        if type(value) is int and not -(2**63) <= value < 2**63:
            self.report(event, path, shorten(event.value), "must fit into 64 bits")
            raise _Skip
        return value


def _closes(event: Any) -> bool:
    return isinstance(event, MappingEndEvent | SequenceEndEvent)


def _is_text(text: str) -> bool:
    """Whether people can read it and every database takes it. Line ends and tabs are allowed."""
    return not any(unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\r\t" for character in text)


def resolve(text: str) -> Any:
    """The value of an unquoted scalar."""
    if _INT.fullmatch(text):
        return int(text) if len(text) < 40 else 2**64  # too large in any case; int() refuses very long texts
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    for pattern, value in ((_NULL, None), (_TRUE, True), (_FALSE, False)):
        if pattern.fullmatch(text):
            return value
    return text
