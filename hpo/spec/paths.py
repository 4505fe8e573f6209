"""Absolute paths for a specification: workers and resumes run in other folders than the one it was started from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from hpo.errors import UsageError
from hpo.home import NAME, expanded
from hpo.spec.parameters import CategoricalParameter, Choice, Condition, Parameter
from hpo.spec.study import Spec
from hpo.spec.training import Training
from hpo.sqlite_urls import sqlite_file
from trainers.api import DataConfig, ModelConfig

WEIGHTS = "model.pretrained"
"""The only path that can be searched."""


def with_absolute_paths(spec: Spec, home: Path | None = None) -> Spec:
    """`spec` with every local path absolute: data, weights, checkpoints, SQLite databases, files of the warm start.

    Weights may also be searched, and then stand in choices, priors, conditions and enqueued
    configurations.

    Args:
        home: the home folder. Checkpoints in it become relative to it, so that they are found after it was moved.

    Raises:
        UsageError: a path begins with `~NAME`, and no such user has a home folder.
    """
    storage = spec.storage.model_copy(
        update={
            "checkpoints": _folder(spec.storage.checkpoints, home),
            "ledger": _database("storage.ledger", spec.storage.ledger),
        }
    )
    changes = {
        "data": _data(spec.data),
        "model": _model(spec.model),
        "storage": storage,
        "warm_start": tuple(
            _absolute("warm_start", source) if names_a_file(source) else source for source in spec.warm_start
        ),
        "space": {name: _parameter(name, parameter) for name, parameter in spec.space.items()},
        "enqueue": tuple(_values(values) for values in spec.enqueue),
    }
    return with_absolute_tracking(spec.model_copy(update=changes))


def with_absolute_tracking(spec: Spec) -> Spec:
    """`spec` with an absolute path of MLflow's SQLite database, which `hpo resume` too may name.

    Raises:
        UsageError: as `with_absolute_paths`.
    """
    uri = _database("tracking.uri", spec.tracking.uri)
    return spec.model_copy(update={"tracking": spec.tracking.model_copy(update={"uri": uri})})


def training_with_absolute_paths(training: Training) -> Training:
    """`training` with absolute paths of the data and the weights: `hpo retrain` writes it beside the model.

    Raises:
        UsageError: as `with_absolute_paths`.
    """
    return training.model_copy(update={"data": _data(training.data), "model": _model(training.model)})


def names_a_file(source: str) -> bool:
    """Whether a source of a warm start is a file. Names of studies have no dot and no slash."""
    return Path(source).is_file() or not NAME.fullmatch(source)


def _absolute(setting: str, path: str) -> str:
    try:
        return str(expanded(path).absolute())
    except OSError as error:
        raise UsageError(f"{setting}: {path} cannot be used: {error.strerror}; give another path") from error


def _data(data: DataConfig) -> DataConfig:
    return dataclasses.replace(data, root=_absolute("data.root", data.root))


def _model(model: ModelConfig) -> ModelConfig:
    pretrained = model.pretrained
    return model if isinstance(pretrained, bool) else dataclasses.replace(model, pretrained=_weights(pretrained))


def _weights(file: str) -> str:
    return _absolute(WEIGHTS, file)


def _values(values: Mapping[str, Choice]) -> dict[str, Choice]:
    """A configuration whose weights, if it names a file, have an absolute path."""
    return {name: _choice(value) if name == WEIGHTS else value for name, value in values.items()}


def _choice(value: Choice) -> Choice:
    return _weights(value) if isinstance(value, str) else value


def _parameter(name: str, parameter: Parameter) -> Parameter:
    update: dict[str, object] = {
        "when": {other: _condition(test) if other == WEIGHTS else test for other, test in parameter.when.items()}
    }
    if name == WEIGHTS and isinstance(parameter, CategoricalParameter):
        update["choices"] = tuple(dict.fromkeys(map(_choice, parameter.choices)))  # two ways to one file are one choice
        if parameter.prior is not None:
            update["prior"] = parameter.prior.model_copy(update={"center": _choice(parameter.prior.center)})
    return parameter.model_copy(update=update)


def _condition(condition: Condition) -> Condition:
    """A condition on the weights: its files have absolute paths."""
    tests = {
        name: tuple(map(_choice, test)) if name == "in" else _choice(test) for name, test in condition.tests().items()
    }
    return Condition.model_validate(tests)


def _folder(place: str | None, home: Path | None) -> str | None:
    if place is None or "://" in place:
        return place
    folder = Path(_absolute("storage.checkpoints", place))
    if home is not None and folder.resolve().is_relative_to(home):
        return str(folder.resolve().relative_to(home))
    return str(folder)


def _database(setting: str, url: str | None) -> str | None:
    from sqlalchemy.engine import make_url

    file = None if url is None else sqlite_file(url)
    if url is None or file is None or file.is_absolute():
        return url  # as it was written: a stored URL stays equal to itself
    return make_url(url).set(database=_absolute(setting, str(file))).render_as_string(hide_password=False)
