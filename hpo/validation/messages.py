"""pydantic's errors in the words of this tool: what the value must be, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from hpo.home import NAME
from hpo.spec.study import DATABASE_URL, IMPORT_PATH, LABEL
from hpo.text import close
from hpo.validation.settings import adapter, all_paths, known_keys
from hpo.validation.yaml_reader import Path, resolve

PATTERNS = {
    NAME.pattern: "1 to 64 letters, digits, _ and -, beginning with a letter or digit: it names a folder",
    IMPORT_PATH: "module:function, e.g. trainers.finetune:train",
    LABEL: "one line of 1 to 60 characters",
    DATABASE_URL: "an SQLAlchemy URL, e.g. sqlite:///studies.db",
}
_PHRASES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "greater_than": "> {gt:g}",
    "greater_than_equal": ">= {ge:g}",
    "less_than": "< {lt:g}",
    "less_than_equal": "<= {le:g}",
    "union_tag_not_found": "float, int or categorical",
    "union_tag_invalid": "float, int or categorical",
}


def rule_and_hint(model: type[BaseModel], path: Path, value: Any, errors: Sequence[Any]) -> tuple[str, str | None]:
    """The rule that the value at `path` breaks, in words, and a remedy; `errors` are pydantic's for it."""
    kind = errors[0]["type"]
    if kind == "missing":
        return "is required", None
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return "is no known key", _meant(model, path)
    if kind == "value_error":
        return str(errors[0]["ctx"]["error"]), None
    return f"must be {alternatives(errors)}", _remedy(value, errors)


def alternatives(errors: Sequence[Any]) -> str:
    """What would have been right, the members of a union joined by `or`."""
    return " or ".join(dict.fromkeys(_phrase(error) for error in errors))


def setting_rule(path: str, value: Any) -> str | None:
    """What the setting at `path` must be where `value` is none of it; None where `value` is right."""
    try:
        adapter(path).validate_python(value, strict=True)
    except ValidationError as error:
        return alternatives(error.errors(include_url=False, include_input=False))
    return None


def _phrase(error: Any) -> str:
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        return str(context["expected"]).replace("'", "")
    if error["type"] == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], f"text like {context['pattern']}")
    if error["type"] in _PHRASES:
        return _PHRASES[error["type"]].format(**context)
    return re.sub("^input should be ", "", str(error["msg"]).lower())


def _meant(model: type[BaseModel], path: Path) -> str | None:
    """The key at this place, or of this name elsewhere, that an unknown key was meant to be."""
    key = str(path[-1])
    here = close(key, known_keys(model, path[:-1]))
    if here:
        return here
    elsewhere = sorted(known for known in all_paths(model) if known.rpartition(".")[2] == key)
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    keys = known_keys(model, path[:-1])
    return f"known here: {', '.join(keys)}" if 0 < len(keys) <= 12 else None


def _remedy(value: Any, errors: Sequence[Any]) -> str | None:
    kinds = {error["type"] for error in errors}
    if isinstance(value, str):
        wants_number = kinds & {"int_type", "float_type", "bool_type"}
        if wants_number and not isinstance(resolve(value), str):
            return f"write {value} without quotes"
        expected = [error["ctx"] for error in errors if "expected" in error.get("ctx", {})]
        words = re.findall(r"'([^']*)'", " ".join(str(context["expected"]) for context in expected))
        if kinds & {"union_tag_invalid"}:
            words = ["float", "int", "categorical"]
        if kinds & {"string_pattern_mismatch"} and value.startswith("postgres:"):
            return f"did you mean postgresql{value.removeprefix('postgres')}?"
        return close(value, words)
    if value is None:
        return "leave the key out for its default"
    if isinstance(value, float) and value.is_integer() and kinds & {"int_type", "int_from_float"}:
        return f"write {value:.0f}"
    return None
