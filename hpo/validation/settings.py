"""The keys of every section, and the settings that a space can search.

All of it is read from the models' annotations, so a new field is searchable and suggested without a change here.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Annotated, Any, Union

from pydantic import BaseModel, TypeAdapter

from trainers.api import TrialConfig

EXTRA = "extra."
_FIXED = {
    "data.": "all trials need the same data and split, so that their accuracies can be compared",
    "train.eval_size": "all trials need the same evaluation size, so that their accuracies can be compared",
    "train.compute_size": "all trials need the same unit of compute, so that their rungs can be compared",
    "train.epochs": "all trials have the same full length; ASHA stops unpromising trials early",
    "train.progressive.sizes": "it is a list; search train.progressive.size.start and .end",
}
"""Settings that cannot be searched, by the beginnings of their names, and the reasons."""


@functools.lru_cache(maxsize=1)
def settings() -> dict[str, Any]:
    """Annotation of every setting of `TrialConfig` by dotted path, without `extra`, whose keys are free."""
    return dict(_leaves(TrialConfig, ""))


def searchable() -> list[str]:
    """The settings that a space may contain; it may also contain any of `extra`."""
    return [name for name in settings() if why_fixed(name) is None]


def why_fixed(setting: str) -> str | None:
    """The reason why a setting cannot be searched; None if it can."""
    return next((reason for beginning, reason in _FIXED.items() if setting.startswith(beginning)), None)


def _leaves(section: type, prefix: str) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, hint in _members(section).items():
        path = f"{prefix}{name}"
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            leaves += _leaves(hint, f"{path}.")
        elif typing.get_origin(hint) is not dict:
            leaves.append((path, hint))
    return leaves


@functools.lru_cache(maxsize=256)
def adapter(path: str) -> TypeAdapter[Any]:
    """A validator of the setting's values. Raises KeyError if `path` is not a setting."""
    hint: Any = bool | int | float | str if path.startswith(EXTRA) else settings()[path]
    return TypeAdapter(hint)


def known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Keys of the section at `path` of `model`; empty if keys are free there."""
    kinds = [model]
    for part in path:
        kinds = [below for kind in kinds for below in _below(kind, part)]
    return sorted({key for kind in kinds for key in _members(kind)})


@functools.lru_cache(maxsize=8)
def all_paths(model: type[BaseModel]) -> frozenset[str]:
    """Dotted path of every key of `model` and of the sections in it."""
    return frozenset(_paths(model, ""))


def _paths(kind: Any, prefix: str) -> list[str]:
    paths: list[str] = []
    for name, hint in _members(kind).items():
        paths.append(f"{prefix}{name}")
        for below in _plain(hint):
            paths += _paths(below, f"{prefix}{name}.")
    return paths


def _members(kind: Any) -> dict[str, Any]:
    """Keys and annotations of a model or dataclass; empty for other types."""
    if not isinstance(kind, type):
        return {}
    if issubclass(kind, BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {}


def _below(kind: Any, part: str | int) -> list[Any]:
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return _plain(arguments[1])
    if typing.get_origin(kind) is tuple:
        return _plain(arguments[0])
    return _plain(_members(kind)[part]) if part in _members(kind) else []


def _plain(hint: Any) -> list[Any]:
    """The types that an annotation allows, without `Annotated` and unions."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _plain(arguments[0])
    if origin in (Union, types.UnionType):
        return [plain for argument in arguments for plain in _plain(argument)]
    return [hint]
