"""What a person needs to repeat a study: specification, versions, commit, seeds and commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.redact import redact
from hpo.text import iso


@dataclass(frozen=True)
class Reproduction:
    """Everything that decides the result of a study, with passwords masked."""

    study: str
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    """(purpose, command)."""
    specification: str
    """YAML that `hpo run` accepts."""


def reproduction(study: StudyRecord) -> Reproduction:
    """Read it from the study's record."""
    info = study.info
    data = info.get("data", {})
    facts = {
        "created": iso(info.get("created")),
        "git commit": info.get("git_commit"),
        "platform": info.get("platform"),
        "host": info.get("host"),
        "study seed": study.spec.seed,
        "seed of the best trial": study.best.seed if study.best else None,
        "validation split (SHA-256)": data.get("split_hash"),
        "training and validation images": _images(data.get("train_count"), data.get("validation_count")),
    }
    return Reproduction(
        study=study.name,
        facts=tuple((name, redact(str(fact))) for name, fact in facts.items() if fact is not None),
        versions=tuple((name, str(version)) for name, version in info.get("versions", {}).items()),
        commands=_commands(study),
        specification=redact(study.spec.to_yaml()),
    )


def _images(train: object, validation: object) -> str | None:
    return f"{train:,} and {validation:,}" if isinstance(train, int) and isinstance(validation, int) else None


def _commands(study: StudyRecord) -> tuple[tuple[str, str], ...]:
    name = shlex.quote(study.name)
    commands = [
        ("Save the specification below as study.yaml and run the study again", f"hpo run study.yaml study={name}-again")
    ]
    if study.count("running") + study.count("interrupted"):
        commands.append(("Continue this study", f"hpo resume {name}"))
    if study.best:
        commands += [
            ("Write the best configuration to a file", f"hpo export {name} --output best.yaml"),
            (
                "Train it on all training images with three seeds, and measure each model's test accuracy once",
                "hpo retrain best.yaml --seeds 3",
            ),
        ]
    return (*commands, ("Make this report again", f"hpo report {name}"))
