"""Which documents each command prints, and their JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from hpo.cli.programs.described import results, study, tools
from hpo.cli.programs.described.base import Error
from hpo.cli.programs.documents import SCHEMA

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_Export = results.ExportedConfiguration | results.ExportedModel
COMMANDS: Mapping[str, Any] = {
    "init": tools.File,
    "spaces": list[tools.Space] | tools.SpaceText,
    "copy": tools.File,
    "run": study.Status | results.Plan,
    "resume": study.Status,
    "confirm": study.ConfirmationDocument | results.ConfirmationPlan,
    "stop": study.RequestDocument,
    "pause": study.RequestDocument,
    "add": study.RequestDocument,
    "set": study.RequestDocument,
    "status": study.Status,
    "ls": list[study.Summary],
    "trials": list[study.Row] | list[study.EpochRow],
    "report": results.Report,
    "audit": results.AuditDocument,
    "export": _Export | list[_Export],
    "retrain": results.Retraining,
    "validate": tools.Validation,
    "doctor": tools.Checks,
    "rename": tools.Renaming,
    "rm": tools.Removal,
    "version": tools.Version,
}
"""What each command prints on standard output with `--json`; every one of them may print an `Error` instead.
`version` is `hpo --version`."""


def output_schema(command: str) -> dict[str, Any]:
    """The JSON Schema of what `hpo COMMAND --json` prints."""
    found = _adapter(command).json_schema(mode="serialization", schema_generator=_Untitled)
    return {"$schema": DIALECT, "title": f"hpo {command} --json, schema {SCHEMA}", **found}


def output_schemas() -> dict[str, Any]:
    """The same for all commands in one file: `#/$defs/hpo status` and its like."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (command, "serialization", _adapter(command)) for command in COMMANDS
    ]
    found, shared = TypeAdapter.json_schemas(inputs, schema_generator=_Untitled)
    named = {f"hpo {command}": schema for (command, _), schema in found.items()}
    title = f"What commands print with --json, schema {SCHEMA}"
    return {"$schema": DIALECT, "title": title, "$defs": named | shared["$defs"]}


def _adapter(command: str) -> TypeAdapter[Any]:
    return TypeAdapter(COMMANDS[command] | Error)


class _Untitled(GenerateJsonSchema):
    """Without a title for each key, which would only repeat it."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


if __name__ == "__main__":  # > reports/docs/json.schema.json
    print(json.dumps(output_schemas(), indent=1))
