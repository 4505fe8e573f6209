"""Values of searched parameters put into a training's configuration. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hpo.spec.parameters import CategoricalParameter, Choice, Parameter, is_number
from trainers.api import TrainConfig, TrialConfig


def configure(base: TrialConfig, values: Mapping[str, Choice]) -> TrialConfig:
    """`base` with each dotted path of `values` set, e.g. `{"train.progressive.stages": 3}`.

    Raises ValueError where the result breaks a rule, KeyError for a path that is no field.
    """
    parts = {item.name: getattr(base, item.name) for item in dataclasses.fields(base)}
    return TrialConfig(**assign(parts, values))


LAST_SIZE = "train.progressive.size.end"


def one_yardstick(train: TrainConfig, space: Mapping[str, Parameter]) -> TrainConfig:
    """`train` as all trials of a study share it: where the last image size is searched, all are evaluated at the
    largest one, unless another is given, and count compute in epochs of it."""
    parameter = space.get(LAST_SIZE)
    if parameter is None:
        return train
    found = parameter.choices if isinstance(parameter, CategoricalParameter) else (parameter.high,)
    largest = max(train.progressive.size.end, *(int(size) for size in found if is_number(size)))
    return dataclasses.replace(train, eval_size=train.eval_size or largest, compute_size=train.compute_size or largest)


def assign(parts: Mapping[str, Any], values: Mapping[str, Choice]) -> dict[str, Any]:
    """Copies of nested dataclasses and mappings with leaves replaced; all at once, so that rules between
    fields see only the result. Raises KeyError for a path that is no field."""
    changes: dict[str, dict[str, Choice]] = {}
    result = dict(parts)
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if rest:
            changes.setdefault(head, {})[rest] = value
        else:
            result[head] = value
    for head, below in changes.items():
        result[head] = _replaced(parts[head], below)
    return result


def _replaced(part: Any, values: Mapping[str, Choice]) -> Any:
    if isinstance(part, Mapping):
        return {**part, **values}
    fields = {item.name: getattr(part, item.name) for item in dataclasses.fields(part)}
    unknown = sorted({path.partition(".")[0] for path in values} - fields.keys())
    if unknown:
        raise KeyError(f"{type(part).__name__} has no field {', '.join(unknown)}")
    return type(part)(**assign(fields, values))
