"""A study or a training, from YAML text and overrides to a validated, frozen model.

    spec = load_spec("cifar10", ["train.epochs=20"])

A `SpecificationError` reports all broken rules at once, as `Problem`s with line, path, value and rule. These functions
raise no other exception, whatever the text contains.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import search_spaces
from hpo.spec.study import Spec
from hpo.spec.training import Training
from hpo.text import close
from hpo.validation.checks import study_problems, training_problems
from hpo.validation.machine_checks import (
    study_machine_problems,
    study_network_problems,
    study_weights_problems,
    training_machine_problems,
    training_network_problems,
    training_weights_problems,
)
from hpo.validation.overrides import apply
from hpo.validation.partial import Model, PartialModel, partial_model
from hpo.validation.problems import Problem, SpecificationError
from hpo.validation.yaml_reader import MAX_BYTES, read

Check: TypeAlias = Callable[[PartialModel[Model], Model], Iterable[Problem]]


def load_spec(
    source: str, overrides: Sequence[str] = (), meanwhile: Callable[[Spec], None] = lambda spec: None
) -> Spec:
    """The study in a YAML file, or the shipped study of that name, with overrides `dotted.key=value`.

    Args:
        meanwhile: called before the checks that take seconds, with a study that has passed all others.

    Raises SpecificationError with all problems.
    """
    return parse_spec(_text(source, search_spaces.studies()), source, overrides, meanwhile)


def parse_spec(
    text: str, source: str, overrides: Sequence[str] = (), meanwhile: Callable[[Spec], None] = lambda spec: None
) -> Spec:
    """The study in a YAML text; error messages call the text `source`. See `load_spec`."""
    checks = (study_problems, study_machine_problems)
    last = (study_network_problems, study_weights_problems)
    return _parse(text, source, overrides, Spec, {"study": "study", "space": {}}, checks, last, meanwhile)


def load_training(source: str, overrides: Sequence[str] = ()) -> Training:
    """The training in an exported YAML file, or the shipped recipe of that name.

    Raises SpecificationError with all problems.
    """
    return parse_training(_text(source, search_spaces.recipes()), source, overrides)


def parse_training(text: str, source: str, overrides: Sequence[str] = ()) -> Training:
    """The training in a YAML text; error messages call the text `source`. Raises SpecificationError."""
    checks = (training_problems, training_machine_problems)
    last = (training_network_problems, training_weights_problems)
    return _parse(text, source, overrides, Training, {}, checks, last)


def is_training(source: str) -> bool:
    """Whether a file, or the shipped one of that name, has a single training: a recipe, or what `hpo export` wrote.

    It has nothing that only a study has. Raises SpecificationError if there is no such file.
    """
    data = read(_text(source, search_spaces.shipped())).data
    return isinstance(data, dict) and bool(data) and data.keys() <= Training.model_fields.keys()


def _parse(
    text: str,
    source: str,
    overrides: Sequence[str],
    model: type[Model],
    placeholders: Mapping[str, Any],
    checks: Sequence[Check[Model]],
    last: Sequence[Check[Model]],
    meanwhile: Callable[[Model], None] = lambda model: None,
) -> Model:
    """The valid model. Each of the `last` checks takes seconds, so it waits until there is no other problem."""
    document = read(text)
    apply(document, overrides)
    partial = partial_model(document, model, placeholders)
    problems = list(partial.problems)
    if partial.model is not None:
        for check in checks:
            problems += check(partial, partial.model)
        if not problems:
            meanwhile(partial.model)
        for check in last:
            problems = problems or list(check(partial, partial.model))
        if not problems:
            return partial.model
    raise SpecificationError(problems, source)


def _text(source: str, shipped: Mapping[str, Path]) -> str:
    """The text of the file `source`, else of the shipped file of that name."""
    try:
        hidden = os.path.isdir(source) and source in shipped  # a folder of images may have the name of a shipped study
        path = Path(source) if os.path.exists(source) and not hidden else shipped.get(source, Path(source))
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
            hint = close(source, shipped) or f"shipped with hpo: {', '.join(shipped)}"
            raise SpecificationError([Problem(None, "", None, what, hint)], source)
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            rule = f"is larger than {MAX_BYTES // 1024} KiB, the limit for a specification"
            raise SpecificationError([Problem(None, "", None, rule)], source)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SpecificationError([Problem(line, "", None, "is not UTF-8 text")], source) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise SpecificationError([Problem(None, "", None, f"cannot be read: {reason}")], source) from error
