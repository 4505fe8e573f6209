"""Set the values of searched parameters in a training's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from hpo.spec.parameters import CategoricalParameter, Choice, Parameter, is_number
from trainers.api import TrainConfig, TrialConfig

IMMATERIAL = {
    "data.root",
    "data.download",
    "train.eval_batch_size",
    "train.checkpoint_every",
    "train.compute_size",
    "train.channels_last",
    "train.compile",
    "train.cuda_graphs",
}
"""Settings that say where the images lie and how fast the training runs, but not what is trained."""
LAST_SIZE = "train.progressive.size.end"


def configure(base: TrialConfig, values: Mapping[str, Choice]) -> TrialConfig:
    """`base` with each dotted path of `values` set, e.g. `{"train.progressive.stages": 3}`.

    Raises ValueError if the result breaks a rule, KeyError if a path is not a field.
    """
    parts = {item.name: getattr(base, item.name) for item in dataclasses.fields(base)}
    return TrialConfig(**assign(parts, values))


def changes(config: TrialConfig, reference: TrialConfig) -> dict[str, str]:
    """The settings of `config` that make it another training than `reference`, as texts by their dotted path."""
    before, after = dict(_leaves(reference)), dict(_leaves(config))
    paths = sorted((before.keys() | after.keys()) - IMMATERIAL)
    return {path: str(after.get(path)) for path in paths if before.get(path) != after.get(path)}


def _leaves(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The settings in nested dataclasses and mappings by their dotted path."""
    if dataclasses.is_dataclass(part):
        part = {item.name: getattr(part, item.name) for item in dataclasses.fields(part)}
    if not isinstance(part, Mapping):
        yield path, part
        return
    for name, value in part.items():
        yield from _leaves(value, f"{path}.{name}" if path else name)


def with_shared_sizes(
    train: TrainConfig, space: Mapping[str, Parameter], enqueued: Iterable[Container[str]] = ()
) -> TrainConfig:
    """`train` with the sizes that all trials of a study share.

    If the last image size is searched, all trials are evaluated at the largest one and count compute in epochs of it,
    unless `eval_size` or `compute_size` is given. If only a configuration of `enqueued` has another one, it is
    evaluated at its own, as all others are, and counts compute in the same unit as the others.
    """
    parameter = space.get(LAST_SIZE)
    if parameter is None:
        own = max(train.progressive.sizes or (train.progressive.size.end,))
        unit = own if any(LAST_SIZE in configuration for configuration in enqueued) else None
        return dataclasses.replace(train, compute_size=train.compute_size or unit)
    ends = parameter.choices if isinstance(parameter, CategoricalParameter) else (parameter.high,)
    largest = max(train.progressive.size.end, *(int(end) for end in ends if is_number(end)))
    return dataclasses.replace(train, eval_size=train.eval_size or largest, compute_size=train.compute_size or largest)


def assign(parts: Mapping[str, Any], values: Mapping[str, Choice]) -> dict[str, Any]:
    """Copies of nested dataclasses and mappings with the leaves at dotted paths replaced.

    All leaves are set at once, so that rules between fields see only the result. Raises KeyError if a path is
    not a field.
    """
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
