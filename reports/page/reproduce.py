"""How to get a study's result again: specification, versions, commit, seeds and commands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.redact import redact
from hpo.text import iso


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a study's outcome, passwords masked."""

    study: str
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    """(what it does, command)."""
    specification: str
    """YAML that `hpo run` accepts."""


def recipe(study: StudyRecord) -> Recipe:
    """Read it from the record."""
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
    return Recipe(
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
    found = [
        ("run it again, from the specification below saved as study.yaml", f"hpo run study.yaml study={name}-again")
    ]
    if study.count("running") + study.count("interrupted"):
        found.append(("go on with it", f"hpo resume {name}"))
    if study.best:
        found += [
            ("write the best configuration", f"hpo export {name} --output best.yaml"),
            ("train it on all training images, test it once per seed", "hpo retrain best.yaml --seeds 3"),
        ]
    return (*found, ("make this report again", f"hpo report {name}"))
