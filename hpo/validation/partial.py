"""A model of a document with errors: every invalid part is reported and replaced by its default.

Rules between settings can then be checked on the valid parts, so that one run reports all problems.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from hpo.validation.messages import rule_and_hint
from hpo.validation.problems import Problem
from hpo.validation.yaml_reader import Document, Path, dotted

Model = TypeVar("Model", bound=BaseModel)


@dataclass
class PartialModel(Generic[Model]):
    """A document, its problems, and a model of its valid parts."""

    document: Document
    model: Model | None = None
    """With defaults in place of what is `invalid`; None if too little of the document is valid."""
    problems: list[Problem] = field(default_factory=list)
    invalid: set[Path] = field(default_factory=set)
    """Paths of the values that have been reported."""

    def problem(self, path: Path, rule: str, hint: str | None = None) -> Problem:
        """A problem at `path`, with its line and value."""
        return Problem(self.document.line(path), dotted(path), self.document.get(path), rule, hint)

    def is_valid(self, *paths: str) -> bool:
        """Whether all parts in and around these dotted paths are valid; other parts of `model` may be defaults."""
        return not any(_touch(tuple(path.split(".")), invalid) for path in paths for invalid in self.invalid)

    def is_valid_parameter(self, name: str) -> bool:
        """`is_valid` for the parameter `name` of the space; such names contain dots."""
        return not any(_touch(("space", name), invalid) for invalid in self.invalid)


def _touch(a: Path, b: Path) -> bool:
    """Whether one path contains the other."""
    return all(x == y for x, y in zip(a, b, strict=False))


def partial_model(document: Document, model: type[Model], placeholders: Mapping[str, Any]) -> PartialModel[Model]:
    """Validate `document` as `model`. `placeholders` are valid values for required keys that are missing."""
    partial: PartialModel[Model] = PartialModel(
        document, problems=list(document.problems), invalid=set(document.broken)
    )
    data = copy.deepcopy(document.data)
    if not isinstance(data, dict):
        if not document.problems:
            hint = "start with a copy of a shipped study or recipe" if data is None else None
            rule = "is empty" if data is None else "must be a mapping of keys to values"
            partial.problems.append(Problem(1, "", data, rule, hint))
        return partial
    while partial.model is None:
        try:
            # Through JSON, because only there does pydantic's strict mode take a mapping for a section.
            partial.model = model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            errors = _by_path(error, data)
            _report(partial, model, errors)
            # Each round removes at least one key, or sets a missing one to its placeholder. So the loop ends.
            removed = [_remove(data, path, placeholders) for path in errors]
            if not any(removed):
                break
    return partial


def _by_path(error: ValidationError, data: dict[str, Any]) -> dict[Path, list[Any]]:
    """pydantic's errors by the place in `data`; a union has several errors at one place."""
    errors: dict[Path, list[Any]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        errors.setdefault(_locate(detail, data), []).append(detail)
    return errors


def _report(partial: PartialModel[Model], model: type[Model], errors: Mapping[Path, list[Any]]) -> None:
    """Add the problems that earlier rounds have not reported."""
    for path, details in errors.items():
        if path not in partial.invalid:
            rule, hint = rule_and_hint(model, path, partial.document.get(path), details)
            partial.problems.append(partial.problem(path, rule, hint))
            partial.invalid.add(path)


def _locate(error: Any, data: Any) -> Path:
    """pydantic's location as a path of the document, without the names of union members."""
    path: list[str | int] = []
    for part in error["loc"]:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            data = data[part]
            path.append(part)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    elif error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append("type")
    return tuple(path)


def _remove(data: dict[str, Any], path: Path, placeholders: Mapping[str, Any]) -> bool:
    """Remove the key at `path` from `data`. False if nothing could be removed.

    An item of a list, or a required key that is missing, cannot be removed: the nearest key around it is. At the top
    a missing key gets its placeholder.
    """
    for length in range(len(path), 0, -1):
        section: Any = data
        for key in path[: length - 1]:
            section = section.get(key, {}) if isinstance(section, dict) else section[int(key)]
        if isinstance(section, dict) and path[length - 1] in section:
            del section[path[length - 1]]
            return True
    if path and path[0] in placeholders:
        data[str(path[0])] = placeholders[str(path[0])]
        return True
    return False
