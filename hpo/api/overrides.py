"""Settings of a Python program as those of the command line, `dotted.key=value`, so that both follow one rule."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from hpo.errors import UsageError
from hpo.spec.study import Spec
from hpo.validation.settings import all_paths

FREE = ("space", "extra")
"""Sections whose keys are no settings of their own."""
_ALLOWED = "give numbers, texts, true and false, None, lists and dicts of them"


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
    except TypeError as error:
        raise UsageError(f"{where}: {error}") from error
    except ValueError as error:
        raise UsageError(f"{where}: {error}; {_ALLOWED}") from error


def _importable(function: Any) -> str:
    """`module:function`, as a specification names a trainer.

    Raises:
        TypeError: no other process can import it.
    """
    module, name = function.__module__, function.__qualname__
    if module != "__main__" and getattr(sys.modules.get(module), name, None) is function:
        return f"{module}:{name}"
    raise TypeError(
        f"the function {name} cannot be imported by the processes that train, now or in a later resume, because it is "
        f"defined in {'this notebook or script' if module == '__main__' else 'another function or class'}. Save it "
        f"with its imports in a file, in a notebook by %%writefile my_trainer.py as the first line of its cell, and "
        f"give trainer='my_trainer:{function.__name__ if function.__name__.isidentifier() else 'train'}'"
    )


def _plain(value: Any) -> Any:
    """A path as its text, a number or array of NumPy as Python's, a function as the text that imports it."""
    if inspect.isfunction(value):
        return _importable(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}, which a specification cannot hold; {_ALLOWED}")
