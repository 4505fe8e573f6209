"""A specification as YAML text in which the docstrings of the settings stand as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from hpo.spec.study import Spec
from hpo.spec.yaml_writer import dump

WIDTH = 80
"""Columns of a comment."""


def commented(data: Mapping[str, Any]) -> str:
    """The YAML of a specification, each key below its comment.

    Args:
        data: keys and values as a YAML file has them; keys that are left out have their defaults.
    """
    schema = Spec.model_json_schema()
    return "\n".join(_lines(data, schema, schema["$defs"], "")).strip() + "\n"


def meaning(path: str, schema: Mapping[str, Any] | None = None) -> str:
    """What a setting means, by its dotted path. An end of a ramp says first what the ramp is of. Empty for `extra`."""
    schema = schema or Spec.model_json_schema()
    section, texts = schema, [""]
    for part in path.split("."):
        field = section.get("properties", {}).get(part, {})
        section = _below(field, schema["$defs"])
        texts.append(_text(field, section))
    return " ".join(texts[-2:] if path.endswith((".start", ".end")) else texts[-1:]).strip()


def _lines(data: Mapping[str, Any], section: Mapping[str, Any], parts: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in data.items():
        field = section["properties"][name]
        below = _below(field, parts)
        if not indent:
            yield ""  # a paragraph per section
        yield from _comment(_text(field, below), indent)
        if below and isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, below, parts, f"{indent}  ")
        elif name == "space":
            yield f"{name}:"
            for path, parameter in value.items():
                yield from _comment(meaning(path, {**section, "$defs": parts}), "  ")
                yield from textwrap.indent(dump({path: parameter}), "  ").splitlines()
        else:
            yield from textwrap.indent(dump({name: value}), indent).splitlines()


def _below(field: Mapping[str, Any], parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section that a field contains; empty if it contains a value."""
    section: Mapping[str, Any] = parts.get(field.get("$ref", "").rpartition("/")[2], {})
    return section


def _text(field: Mapping[str, Any], below: Mapping[str, Any]) -> str:
    return str(field.get("description") or below.get("description") or "").partition("\n\n")[0]


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False):
        yield f"{indent}# {line}"
