"""Settings of a Python program as those of the command line, `dotted.key=value`, so that both follow one rule."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from hpo.errors import UsageError
from hpo.spec.study import Spec
from hpo.validation.settings import all_paths

FREE = ("space", "extra")
"""Sections whose keys are no settings of their own."""


def as_overrides(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings, one text each.

    A mapping that stands for a section sets the keys that it has and leaves the others; every other value replaces what
    was there. So `budget={"trials": 20}` and `**{"budget.trials": 20}` are the same.

    Raises:
        UsageError: a value has no form in YAML.
    """
    sections = {*FREE, *(path.rpartition(".")[0] for path in all_paths(Spec))}
    return tuple(f"{key}={as_yaml(value, key)}" for key, value in _leaves(settings, sections))


def _leaves(settings: Mapping[str, Any], sections: Collection[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value and path in sections:
            yield from _leaves(value, sections, f"{path}.")
        else:
            yield path, value


def as_yaml(value: Any, where: str) -> str:
    """A value as text in YAML, whose texts and numbers are those of JSON.

    Raises:
        UsageError: it has none; the text names it `where`.
    """
    try:
        return json.dumps(value, default=_plain, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{where}: {error}; give numbers, texts, true and false, None, lists and dicts of them"
        ) from error


def _plain(value: Any) -> Any:
    """A path as its text, a number or array of NumPy as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}, which a specification cannot hold")
