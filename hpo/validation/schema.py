"""The YAML files described: as JSON Schemas for editors, and as the reference page for people. See `hpo schema`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel

from hpo.spec.parameters import CategoricalParameter, Condition, FloatParameter, IntParameter, Prior
from hpo.spec.study import Spec
from hpo.spec.training import Provenance, Training
from hpo.validation.messages import PATTERNS
from hpo.validation.settings import searchable, settings

Schema: TypeAlias = Mapping[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PARAMETERS: Mapping[str, type[BaseModel]] = {
    "float": FloatParameter,
    "int": IntParameter,
    "categorical": CategoricalParameter,
}
_TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}
_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_HEAD = """\
# Reference of the specification

`hpo schema --markdown` writes this page from the models that check the YAML files. A key that is not given has its
default. For how to choose the values see [search spaces](search_spaces.md).

Every setting of `model`, `train` and `extra` can be searched, except {fixed}.
"""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a study's specification."""
    schema = Spec.model_json_schema()
    any_name = {"anyOf": [{"enum": searchable()}, {"pattern": "^extra\\.[A-Za-z_][A-Za-z0-9_]*$"}]}
    schema["properties"]["space"]["propertyNames"] = any_name
    return {"$schema": _DIALECT, **schema, "title": "Specification of a study"}


def training_schema() -> dict[str, Any]:
    """The JSON Schema of an exported configuration or recipe."""
    return {"$schema": _DIALECT, **Training.model_json_schema(), "title": "A single training"}


def markdown() -> str:
    """The reference page: the sections of a study, the parameters of its space, exported configurations."""
    fixed = [name for name in settings() if name not in searchable() and not name.startswith("data.")]
    parts = [_HEAD.format(fixed=", ".join(f"`{name}`" for name in fixed))]
    parts += _sections("A study", "", Spec.model_json_schema(), _defaults(Spec))
    for kind, model in _PARAMETERS.items():
        parts.append(_table(f"`space`: parameters of type `{kind}`", "", model.model_json_schema(), _defaults(model)))
    parts.append(_table("`space`: conditions under `when`", "", _conditions(), {}))
    parts.append(_table("`space`: what is expected under `prior`", "", Prior.model_json_schema(), _defaults(Prior)))
    parts.append(_table("An exported configuration or recipe", "", _training(), _defaults(Training)))
    parts.append(_table("`provenance`", "", Provenance.model_json_schema(), _defaults(Provenance)))
    return "\n".join(parts)


def _conditions() -> Schema:
    """The tests of a condition; a file must not set them to null, which in the model means not given."""
    schema = Condition.model_json_schema(by_alias=True)
    for field in schema["properties"].values():
        field["anyOf"] = [kind for kind in field["anyOf"] if kind != {"type": "null"}]
    return schema


def _training() -> Schema:
    schema = Training.model_json_schema()
    for shared in ("data", "model", "train", "extra"):
        del schema["properties"][shared]
    return {**schema, "description": f"{schema['description']} `data`, `model`, `train` and `extra` are as in a study."}


def _sections(title: str, path: str, schema: Schema, defaults: Any, parts: Schema | None = None) -> Iterator[str]:
    """The tables of a section and of the sections in it; `parts` are the definitions that references name."""
    parts = schema["$defs"] if parts is None else parts
    yield _table(title, path, schema, defaults, parts)
    for name, field in schema["properties"].items():
        if below := _section(field, parts):
            inner = f"{path}{name}"
            yield from _sections(f"`{inner}`", f"{inner}.", below, _default(defaults, name), parts)


def _table(title: str, path: str, schema: Schema, defaults: Any, parts: Schema | None = None) -> str:
    lines = [f"## {title}", "", schema["description"], "", "| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        below = _section(field, parts or {})
        if below:
            kind, default = f"see [`{path}{name}`](#{f'{path}{name}'.replace('.', '')})", ""
        else:
            kind = _kind(field)
            default = "required" if name in schema.get("required", ()) else _written(_default(defaults, name))
        cells = (f"`{name}`", kind, default, field.get("description") or (below or {})["description"])
        lines.append("| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _section(field: Schema, parts: Schema) -> Schema | None:
    """The section that a field contains; None if it contains a value."""
    section: Schema | None = parts.get(field.get("$ref", "").rpartition("/")[2])
    return section


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    fields = model.model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}


def _default(defaults: Any, name: str) -> Any:
    """The default of a key in this section, which may differ from the default of the key's class."""
    return defaults.get(name, ...) if isinstance(defaults, dict) else getattr(defaults, name)


def _written(value: Any) -> str:
    """The value as YAML text; empty if there is no default."""
    if value is ...:
        return ""
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else '`""`'


def _kind(field: Schema) -> str:
    """The values that a field accepts, in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        kinds = [kind for kind, model in _PARAMETERS.items() if model.__name__ == name]
        return f"`{kinds[0]}` parameter" if kinds else name.lower()
    if choices := field.get("anyOf") or field.get("oneOf"):
        kinds = list(dict.fromkeys(map(_kind, choices)))
        return " or ".join(kind for kind in kinds if kind != "whole number" or "number" not in kinds)
    if words := field.get("enum") or ([field["const"]] if "const" in field else None):
        return " or ".join(map(_written, words))
    if field["type"] == "array":
        return f"list of: {_kind(field['items'])}"
    if field["type"] == "object":
        return f"names with: {_kind(field['additionalProperties'])}"
    if "pattern" in field:
        return PATTERNS.get(field["pattern"], f"text like `{field['pattern']}`")
    bounds = " and ".join(f"{sign} {field[key]:g}" for key, sign in _SIGNS.items() if key in field)
    return f"{_TYPES[field['type']]} {bounds}".strip()
