"""JSON Schemas of the YAML files, for editors and for `hpo schema`."""

from __future__ import annotations

from typing import Any

from hpo.spec.study import Spec
from hpo.spec.training import Training
from hpo.validation.settings import settings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a study's specification; the space's keys are the settings that can be searched."""
    schema = Spec.model_json_schema()
    names = [name for name in settings() if not name.startswith("data.") and name != "train.epochs"]
    names.remove("train.progressive.sizes")
    any_name = {"anyOf": [{"enum": names}, {"pattern": "^extra\\.[A-Za-z_][A-Za-z0-9_]*$"}]}
    schema["properties"]["space"]["propertyNames"] = any_name
    return {"$schema": _DIALECT, **schema, "title": "Specification of a study"}


def training_schema() -> dict[str, Any]:
    """The JSON Schema of an exported configuration or recipe."""
    return {"$schema": _DIALECT, **Training.model_json_schema(), "title": "A single training"}
