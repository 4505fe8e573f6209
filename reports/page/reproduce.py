"""What a person needs to repeat a study: specification, versions, commit, seeds and commands."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.redact import redact
from hpo.results.progress import Step, next_steps
from hpo.results.winner import winner
from hpo.text import iso

LONGEST = 58
"""Letters of a study's name that fit before `-again`: see `hpo.home.NAME`."""


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


def reproduction(study: StudyRecord, home_option: str = "") -> Reproduction:
    """Read it from the study's record; `home_option` is `hpo.home.Home.option`."""
    info = study.info
    data = info.get("data", {})
    best = winner(study)
    facts = {
        "created": iso(info.get("created")),
        "git commit": info.get("git_commit"),
        "platform": info.get("platform"),
        "host": info.get("host"),
        "study seed": study.spec.seed,
        "seed of the best trial": best.trial.seed if best else None,
        "validation split (SHA-256)": data.get("split_hash"),
        "training and validation images": _images(data.get("train_count"), data.get("validation_count")),
    }
    return Reproduction(
        study=study.name,
        facts=tuple((name, redact(str(fact))) for name, fact in facts.items() if fact is not None),
        versions=tuple((name, str(version)) for name, version in info.get("versions", {}).items()),
        commands=_commands(study, home_option),
        specification=redact(study.spec.to_yaml()),
    )


def _images(train: object, validation: object) -> str | None:
    return f"{train:,} and {validation:,}" if isinstance(train, int) and isinstance(validation, int) else None


def _commands(study: StudyRecord, home_option: str) -> tuple[tuple[str, str], ...]:
    name = study.name
    steps = [
        Step.of(
            "Save the specification below as study.yaml and run the study again",
            f"run study.yaml study={name[:LONGEST]}-again",
            home_option,
        ),
        *next_steps(study, home_option),
        Step.of("Make this report again", f"report {name}", home_option),
    ]
    return tuple((f"{step.purpose[0].upper()}{step.purpose[1:]}", step.command) for step in steps)
