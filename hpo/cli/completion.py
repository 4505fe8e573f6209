"""The words that the shell offers on Tab. They must come fast, so this module imports no model and no database."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

import search_spaces
from hpo.errors import UsageError
from hpo.home import Home
from hpo.text import first_line

Offer = tuple[str, str]
"""A word, and its meaning."""


def studies(ctx: typer.Context) -> list[str]:
    """Names of the studies in the home folder, which are the names of their folders."""
    home = ctx.params.get("home")
    try:
        folder = Home.at(Path(home) if home else None).path / "studies"
        return sorted(study.name for study in folder.iterdir() if study.is_dir())
    except (OSError, UsageError):  # no study yet, or no permission to read them
        return []


def specs() -> list[str]:
    """Shipped search spaces, and YAML files of this folder. If no word matches, the shell offers its own file names."""
    return [*search_spaces.studies(), *_files()]


def shipped() -> list[str]:
    """Shipped search spaces and recipes."""
    return list(search_spaces.shipped())


def trainings(ctx: typer.Context) -> list[str]:
    """Everything that `hpo retrain` takes: studies, shipped recipes, and YAML files of this folder."""
    return [*studies(ctx), *search_spaces.recipes(), *_files()]


def documented(ctx: typer.Context) -> list[str]:
    """The commands whose output has a JSON Schema."""
    commands: Mapping[str, Any] = getattr(ctx.find_root().command, "commands", {})
    return [name for name, command in commands.items() if any("--json" in word.opts for word in command.params)]


def overrides() -> list[Offer]:
    """Dotted keys of a specification, and the values of settings that have a list of values."""
    return _offers("schema.json")


def training_overrides() -> list[Offer]:
    """Like `overrides`, for an exported configuration."""
    return _offers("training.schema.json")


def _files() -> list[str]:
    return sorted(path.name for path in Path().glob("*.y*ml"))


def _offers(name: str) -> list[Offer]:
    schema = json.loads((search_spaces.FOLDER / name).read_text(encoding="utf-8"))
    return list(_keys(schema, schema["$defs"], ""))


def _keys(section: Mapping[str, Any], parts: Mapping[str, Any], path: str) -> Iterator[Offer]:
    for name, field in section["properties"].items():
        below = parts.get(field.get("$ref", "").rpartition("/")[2], {})
        meaning = first_line(field.get("description", ""))
        if "properties" in below:
            yield from _keys(below, parts, f"{path}{name}.")
        elif names := field.get("propertyNames"):  # the space: a parameter per searchable setting
            yield from ((f"{path}{name}.{parameter}=", meaning) for parameter in names["anyOf"][0]["enum"])
        else:
            yield f"{path}{name}=", meaning
            yield from ((f"{path}{name}={word}", meaning) for word in _words(field))


def _words(field: Mapping[str, Any]) -> Iterator[str]:
    """The values of a setting, if the schema lists them."""
    for kind in (field, *field.get("anyOf", ())):
        words = kind.get("enum", [kind["const"]] if "const" in kind else [])
        yield from map(str, words)
        if kind.get("type") == "boolean":
            yield from ("true", "false")
