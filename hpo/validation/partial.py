"""A model made of a faulty document: what is wrong, and what is left when the faulty parts are taken out.

Rules between fields can then be checked on the rest, so that a person sees all problems in one go and not one
layer of them per attempt.
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
class Draft(Generic[Model]):
    """`model` holds defaults in place of what is `removed`; None where nothing sensible was left."""

    document: Document
    model: Model | None = None
    problems: list[Problem] = field(default_factory=list)
    removed: set[Path] = field(default_factory=set)

    def problem(self, path: Path, rule: str, hint: str | None = None) -> Problem:
        """A problem at `path`, with the line and value that stand there."""
        return Problem(self.document.line(path), dotted(path), self.document.get(path), rule, hint)

    def intact(self, *paths: str) -> bool:
        """Whether nothing in or around these dotted paths was taken out, so that checking them is fair."""
        return not any(_touch(tuple(path.split(".")), gone) for path in paths for gone in self.removed)

    def knows_parameter(self, name: str) -> bool:
        """Whether nothing in or around the parameter `name` was taken out."""
        return not any(_touch(("space", name), gone) for gone in self.removed)


def _touch(a: Path, b: Path) -> bool:
    return all(x == y for x, y in zip(a, b, strict=False))


def draft(document: Document, model: type[Model], placeholders: Mapping[str, Any]) -> Draft[Model]:
    """Validate `document` as `model`; `placeholders` stand for required keys that are missing."""
    result: Draft[Model] = Draft(document, problems=list(document.problems), removed=set(document.broken))
    data = copy.deepcopy(document.data)
    if not isinstance(data, dict):
        if not document.problems:
            hint = "begin with a shipped search space or recipe" if data is None else None
            rule = "is empty" if data is None else "must be a mapping of keys to values"
            result.problems.append(Problem(1, "", data, rule, hint))
        return result
    while result.model is None:
        try:
            # Through JSON, because only there does pydantic's strict mode take a mapping for a section.
            result.model = model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            if not _take_out(result, data, model, error, placeholders):
                break
    return result


def _take_out(
    result: Draft[Model],
    data: dict[str, Any],
    model: type[Model],
    error: ValidationError,
    placeholders: Mapping[str, Any],
) -> bool:
    """Report what is new in `error` and remove it from `data`; False where that changes nothing."""
    groups: dict[Path, list[Any]] = {}
    for one in error.errors(include_url=False, include_input=False):
        groups.setdefault(_locate(one, data), []).append(one)
    changed = False
    for path, errors in groups.items():
        if path not in result.removed:
            rule, hint = rule_and_hint(model, path, result.document.get(path), errors)
            result.problems.append(result.problem(path, rule, hint))
            result.removed.add(path)
        changed |= _remove(data, path, placeholders)
    return changed


def _locate(error: Any, data: Any) -> Path:
    """pydantic's location as a path of the document: names of union members are not part of it."""
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
    """Take out the key at `path`; where there is none, because it is required and missing, or the item of a
    list, the nearest key around it. False where nothing is left to take out."""
    for length in range(len(path), 0, -1):
        holder: Any = data
        for key in path[: length - 1]:
            holder = holder.get(key, {}) if isinstance(holder, dict) else holder[int(key)]
        if isinstance(holder, dict) and path[length - 1] in holder:
            del holder[path[length - 1]]
            return True
    if path and path[0] in placeholders:
        data[str(path[0])] = placeholders[str(path[0])]
        return True
    return False
