"""What people may change in a study that has begun: nothing that makes new trials incomparable with old ones.

A resume may change some of its specification, and while it runs, people may set a part of that and add configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.errors import UsageError
from hpo.redact import redact
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec
from hpo.validation.checks import configuration_problems
from hpo.validation.loader import parse_spec
from hpo.validation.problems import Problem, SpecificationError
from hpo.validation.yaml_reader import read

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

AT_ONCE = ("budget", "concurrency", "retries", "stop_after_failures", "description", "baseline")
"""Of these, what a driver that runs the study takes up at once. The others it reads when it starts."""


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


def revise_running(recorded: Spec, overrides: Sequence[str]) -> Spec:
    """The recorded specification with `overrides`, for a driver that is running the study.

    Raises:
        As `revise`; UsageError also if an override changes what a driver only reads when it starts.
    """
    revised = revise(recorded, overrides)
    differences = _differences(recorded.model_dump(mode="json"), revised.model_dump(mode="json"), "")
    refused = [line for path, line in differences if path.split(".")[0] not in AT_ONCE]
    if refused:
        raise UsageError(
            f"while a study runs, only {', '.join(AT_ONCE)} can be set; stop the study and resume it with the "
            "same settings. Refused:\n" + "\n".join(f"  {redact(line)}" for line in refused)
        )
    return revised


def added(spec: Spec, values: Mapping[str, Choice]) -> dict[str, Choice]:
    """A configuration that a person adds to a study, checked like one of `enqueue`.

    Args:
        values: as in `Spec.enqueue`. Those of parameters that are not active here are left out.

    Raises:
        SpecificationError: it lies outside the space.
    """
    problems = list(configuration_problems(spec, values))
    if problems:
        raise SpecificationError(problems, "the configuration")
    active: dict[str, Choice] = {}
    for name, parameter in spec.space.items():
        if parameter.is_active(active):
            active[name] = values[name]
    return active | {name: value for name, value in values.items() if name not in spec.space}


def assignments(spec: Spec, given: Sequence[str], others: Mapping[str, Choice]) -> dict[str, Choice]:
    """A configuration from `dotted.key=value` on the command line and, where nothing is given, from `others`.

    Raises:
        SpecificationError: something given is no assignment, or the configuration lies outside the space.
    """
    values: dict[str, Choice] = {}
    for text in given:
        name, equals, value = text.partition("=")
        document = read(value)
        if not equals or not name.strip() or document.problems:
            hint = f"write PARAMETER=VALUE; parameters: {', '.join(spec.space)}"
            raise SpecificationError([Problem(None, text, None, "is not a value of a parameter", hint)], "override")
        values[name.strip()] = document.data
    combined: dict[str, Choice] = {name: value for name, value in others.items() if name not in spec.space}
    searched: dict[str, Choice] = {}
    for name, parameter in spec.space.items():  # what `others` have of parameters that are not active now is left out
        if name in values or (name in others and parameter.is_active(searched)):
            searched[name] = values.get(name, others.get(name))
    return added(spec, combined | searched | values)
