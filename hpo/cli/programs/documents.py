"""The JSON that commands print: one document on standard output, and nothing else there.

A document is an object with `schema`, the version of its keys, and `kind`, which says what it is. reports/docs/json.md
describes the keys. New keys may come at any time; `SCHEMA` grows where a key goes away or changes its meaning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

SCHEMA = 1
OPTION = "--json"
Kind: TypeAlias = Literal[
    "audit",
    "checks",
    "confirmation",
    "confirmation_plan",
    "error",
    "export",
    "file",
    "plan",
    "removal",
    "renaming",
    "report",
    "request",
    "retraining",
    "space",
    "status",
    "summary",
    "validation",
    "version",
]


def document(kind: Kind, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as a document. An entry of `hpo spaces` keeps the `kind` of its own, `study` or `recipe`."""
    return {"schema": SCHEMA, "kind": kind, **content}


def show(kind: Kind, content: Mapping[str, Any]) -> None:
    """Print one document."""
    print(text(document(kind, content)))


def show_list(kind: Kind, contents: Iterable[Mapping[str, Any]]) -> None:
    """Print a list of documents."""
    print(text([document(kind, content) for content in contents]))


def text(value: Any) -> str:
    """The value as JSON on one line; NaN and the infinities, which JSON does not have, are null."""
    return json.dumps(finite(value), allow_nan=False)


def finite(value: Any) -> Any:
    """The value with None for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
