"""A study's specification, from YAML text and overrides to a validated, frozen model.

    spec = load_spec("cifar10", ["train.epochs=20"])

Every broken rule is reported at once, as a `SpecificationError` that holds `Problem`s with line, path,
value and rule; no other exception leaves these functions, whatever the text holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import search_spaces
from hpo.spec.study import Spec
from hpo.spec.training import Provenance, Training
from hpo.text import close
from hpo.validation.checks import study_problems, training_problems
from hpo.validation.machine_checks import study_machine_problems, training_machine_problems
from hpo.validation.overrides import apply
from hpo.validation.partial import draft
from hpo.validation.problems import Problem, SpecificationError, format_problems
from hpo.validation.schema import json_schema, training_schema
from hpo.validation.yaml_reader import MAX_BYTES, read

__all__ = [
    "Provenance",
    "Spec",
    "Training",
    "format_problems",
    "json_schema",
    "load_spec",
    "load_training",
    "parse_spec",
    "parse_training",
    "training_schema",
]


def load_spec(source: str, overrides: Sequence[str] = ()) -> Spec:
    """The study in a YAML file, or the shipped one of that name, with `dotted.key=value` laid over it.

    Raises SpecificationError with all problems.
    """
    return parse_spec(_text(source, search_spaces.studies()), source, overrides)


def parse_spec(text: str, source: str, overrides: Sequence[str] = ()) -> Spec:
    """The study in a YAML text; `source` is what error messages call it. Raises SpecificationError."""
    document = read(text)
    apply(document, overrides)
    found = draft(document, Spec, {"study": "study", "space": {}})
    problems = found.problems
    if found.model is not None:
        problems = [
            *problems,
            *study_problems(found, found.model),
            *study_machine_problems(found, found.model),
        ]
        if not problems:
            return found.model
    raise SpecificationError(problems, source)


def load_training(source: str, overrides: Sequence[str] = ()) -> Training:
    """The training in an exported YAML file, or the shipped recipe of that name.

    Raises SpecificationError with all problems.
    """
    return parse_training(_text(source, search_spaces.recipes()), source, overrides)


def parse_training(text: str, source: str, overrides: Sequence[str] = ()) -> Training:
    """The training in a YAML text; `source` is what error messages call it. Raises SpecificationError."""
    document = read(text)
    apply(document, overrides)
    found = draft(document, Training, {})
    problems = found.problems
    if found.model is not None:
        problems = [
            *problems,
            *training_problems(found, found.model),
            *training_machine_problems(found, found.model),
        ]
        if not problems:
            return found.model
    raise SpecificationError(problems, source)


def _text(source: str, shipped: Mapping[str, Path]) -> str:
    """The text of a file, or of the shipped file of that name where no file is called so."""
    try:
        path = Path(source) if os.path.exists(source) else shipped.get(source, Path(source))
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
            hint = close(source, shipped) or f"shipped: {', '.join(shipped)}"
            raise SpecificationError([Problem(None, "", None, what, hint)], source)
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            rule = f"is larger than {MAX_BYTES // 1024} KiB, which no specification needs"
            raise SpecificationError([Problem(None, "", None, rule)], source)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SpecificationError([Problem(line, "", None, "is not UTF-8 text")], source) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise SpecificationError([Problem(None, "", None, f"cannot be read: {reason}")], source) from error
