"""Bounds of settings, read from annotations: `Annotated[float, Range(gt=0)]`, `Literal` and plain types.

pydantic enforces the same annotations when `hpo` reads a file; `check` enforces them without pydantic.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union


@dataclass(frozen=True)
class Range:
    """The bounds of a number in an annotation, e.g. `Annotated[float, Range(gt=0)]`."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def rule(self) -> str:
        """Return the bounds as text, e.g. `>= 0 and < 1`."""
        signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        bounds = ((signs[name], getattr(self, name)) for name in signs)
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    def admits(self, value: float) -> bool:
        """Return whether `value` is within the bounds; NaN never is."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
            and value == value
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return the bounds in the form that pydantic enforces. pydantic calls this; nothing imports it here."""
        schema = dict(handler(source))
        bounds = dataclasses.asdict(self)
        schema.update({name: bound for name, bound in bounds.items() if bound is not None})
        return schema


FORBID_EXTRA = {"extra": "forbid", "use_attribute_docstrings": True}
"""The value of `__pydantic_config__`: for pydantic, unknown keys are errors, and the text under a field is its
description in the JSON Schema."""


def check(config: Any, path: str = "") -> list[tuple[str, str]]:
    """Return the broken rules of all fields, nested dataclasses included, as (dotted path, problem)."""
    hints = _annotations(config.__class__)
    problems: list[tuple[str, str]] = []
    for item in dataclasses.fields(config):
        value, where = getattr(config, item.name), f"{path}{item.name}"
        if dataclasses.is_dataclass(value):
            problems += check(value, f"{where}.")
        elif not _admits(hints[item.name], value):
            problems.append((where, f"{value!r} is not {_describe(hints[item.name])}"))
    return problems


@functools.cache  # a driver checks one configuration per trial, and the texts of the annotations are slow to read
def _annotations(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _admits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _admits(arguments[0], value) and all(
            rule.admits(value) for rule in arguments[1:] if isinstance(rule, Range)
        )
    if origin in (Union, types.UnionType):
        return any(_admits(option, value) for option in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_admits(arguments[0], item) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and _admits(arguments[1], item) for key, item in value.items()
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        rules = " and ".join(rule.rule() for rule in arguments[1:] if isinstance(rule, Range))
        return f"{_describe(arguments[0])} {rules}"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        return f"a list of {_describe(arguments[0])}"
    if origin is dict:
        return f"a mapping of names to {_describe(arguments[1])}"
    return {type(None): "null", int: "an integer", float: "a number", bool: "true or false"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )
