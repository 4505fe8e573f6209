"""pydantic's errors in the words of this tool: the rule that a value breaks, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from hpo.home import NAME
from hpo.spec.notify import REFERENCE
from hpo.spec.study import DATABASE_URL, IMPORT_PATH, LABEL
from hpo.text import close, nearest
from hpo.validation.problems import UNKNOWN_KEY
from hpo.validation.settings import adapter, all_paths, known_keys
from hpo.validation.yaml_reader import Path, dotted, resolve

PATTERNS = {
    NAME.pattern: "1 to 64 letters, digits, _ and -, starting with a letter or digit, because it names a folder",
    IMPORT_PATH: "module:function, e.g. trainers.finetune:train",
    LABEL: "one line of 1 to 60 characters",
    REFERENCE: "the name of an environment variable that holds the address, e.g. ${HPO_NOTIFY_URL}; the address itself "
    "is a secret",
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
    """The rule that the value at `path` breaks, and a remedy or None. `errors` are pydantic's errors there."""
    kind = errors[0]["type"]
    if kind == "missing":
        return "is required", None
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return UNKNOWN_KEY, _meant(model, path)
    if kind == "value_error":
        return str(errors[0]["ctx"]["error"]), None
    return f"must be {alternatives(errors)}", _remedy(value, errors)


def alternatives(errors: Sequence[Any]) -> str:
    """What the value must be; members of a union are joined by `or`."""
    return " or ".join(dict.fromkeys(_phrase(error) for error in errors))


def setting_rule(path: str, value: Any) -> str | None:
    """What the setting at `path` must be; None if `value` is valid for it."""
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
    """The key that an unknown one was meant to be: a similar key in its section, or the same key in another one."""
    key, keys = str(path[-1]), known_keys(model, path[:-1])
    if similar := nearest(key, keys):
        return f"did you mean {dotted((*path[:-1], similar))}?"
    elsewhere = sorted(other for other in all_paths(model) if other.rpartition(".")[2] == key)
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    return f"valid keys: {', '.join(keys)}" if 0 < len(keys) <= 12 else None


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
        return "remove the key to use its default"
    if isinstance(value, float) and value.is_integer() and kinds & {"int_type", "int_from_float"}:
        return f"write {value:.0f}"
    return None
