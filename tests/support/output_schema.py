"""What a command printed as JSON, compared with its JSON Schema."""

from __future__ import annotations

import functools
import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from hpo.cli.programs.described.commands import output_schema


def check(command: str, document: Any) -> None:
    """Fail if the schema of `hpo COMMAND --json` does not allow the document, or does not know a key of it."""
    error = best_match(_strict(command).iter_errors(document))
    assert error is None, f"hpo {command} --json: {error.json_path}: {error.message}"


@functools.cache
def _strict(command: str) -> Draft202012Validator:
    schema = json.loads(json.dumps(output_schema(command)), object_hook=_closed)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _closed(found: dict[str, Any]) -> dict[str, Any]:
    """A description of an object, without room for keys that it does not name; readers leave that room."""
    is_object = found.get("type") == "object" and "properties" in found and "additionalProperties" not in found
    return {**found, "additionalProperties": False} if is_object else found
