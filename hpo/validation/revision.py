"""What a resume may change in a study's specification: nothing that makes new trials incomparable with old ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpo.errors import UsageError
from hpo.redact import redact
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec

ALLOWED = (
    "budget",
    "concurrency",
    "resources",
    "retries",
    "stop_after_failures",
    "ray",
    "storage.keep",
    "tracking",
    "notify",
    "description",
    "baseline",
)


def revise(recorded: Spec, overrides: Sequence[str]) -> Spec:
    """The recorded specification with `overrides`, to continue the study with.

    Raises:
        SpecificationError: an override is invalid.
        UsageError: an override changes a setting outside `ALLOWED`; the text lists the changes.
    """
    if not overrides:
        return recorded
    return continued(
        recorded, parse_spec(recorded.to_yaml(), f"the recorded specification of {recorded.study}", overrides)
    )


def continued(recorded: Spec, revised: Spec) -> Spec:
    """`revised`, to continue the recorded study with.

    Raises:
        UsageError: it differs from the recorded specification in a setting outside `ALLOWED`; the text lists all.
    """
    differences = sorted(_differences(recorded.model_dump(mode="json"), revised.model_dump(mode="json"), ""))
    refused = [line for path, line in differences if not {path, path.split(".")[0]} & set(ALLOWED)]
    if refused:
        raise UsageError(
            "new trials must stay comparable with the study's earlier ones, so a resume may change only "
            f"{', '.join(ALLOWED)}. Refused:\n" + "\n".join(f"  {redact(line)}" for line in refused)
        )
    return revised


def _differences(old: Any, new: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [
            difference
            for key in keys
            for difference in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [(path, f"{path}: {old!r} -> {new!r}")]
