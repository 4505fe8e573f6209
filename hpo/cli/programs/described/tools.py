"""The commands around studies: specifications, files, this machine."""

from __future__ import annotations

from typing import Literal

from hpo.cli.programs.described.base import Document, Part, Path


class Validation(Document):
    """`hpo validate`."""

    kind: Literal["validation"]
    specification: str
    """The file, or the name of a shipped study."""
    valid: Literal[True]
    """Broken rules are an error, with `problems`."""
    what: Literal["study", "recipe", "exported configuration", "single training"]
    """What it is; only a study has a space to search."""
    study: str | None
    """Its name; of an exported configuration the study that it comes from, null for other single trainings."""
    parameters: int
    """How many are searched."""
    trials: int
    """The budget; 1 for a single training."""
    warnings: list[str]
    """What may be wrong all the same."""
    notified: bool
    """Whether a test message was sent."""


class Space(Document):
    """`hpo spaces`: a list of them; with a name one that also has `text`."""

    kind: Literal["study", "recipe"]
    """A study is for `hpo run`, a recipe for `hpo retrain`."""
    name: str
    """What the commands take."""
    file: Path
    summary: str
    """In a sentence."""
    data: str | None
    """Name of the data set."""
    model: str | None
    """Name of the model; null if it is searched."""
    pretrained: bool | str | None
    """Whether it begins with published weights, or a file of weights."""
    epochs: int | None
    """Of a full training."""
    trials: int | None
    """The budget of a study."""
    hardware: str
    """In words."""
    duration: str | None
    """In words."""


class SpaceText(Space):
    """`hpo spaces NAME`."""

    text: str
    """The file itself."""


class File(Document):
    """`hpo copy` and `hpo init`."""

    kind: Literal["file"]
    file: Path
    next: str
    """What to type next."""


class Removal(Document):
    """`hpo rm --yes`."""

    kind: Literal["removal"]
    study: str
    """Its name."""
    trials: int
    """Of the study and its confirmation."""
    mlflow_runs: int
    """Runs that were removed; 0 with `--keep-mlflow`."""
    bytes: int
    """Of its folder and its files in MLflow."""
    removed: list[str]
    """For people."""


class Renaming(Document):
    """`hpo rename`."""

    kind: Literal["renaming"]
    study: str
    """Its name now."""
    former: str
    """The name that it had before."""
    changed: list[str]
    """What was changed, for people; empty if nothing was left to do."""


class Check(Part):
    """The result of one check."""

    subject: str
    """What was checked."""
    state: Literal["ok", "differs", "warning", "failed"]
    """`differs`: it was repaired."""
    text: str
    """The result, and a remedy, in words."""


class Checks(Document):
    """`hpo doctor`."""

    kind: Literal["checks"]
    study: str | None
    """The study that was compared with MLflow; null without one."""
    home: Path
    failed: bool
    """Whether a check failed; the exit code is 1 then."""
    findings: list[Check]
    """In the order of the checks."""


class Version(Document):
    """`hpo --version`."""

    kind: Literal["version"]
    version: str | None
    """Null if it is not installed with pip."""
    details: dict[str, str] | None
    """With `-v`: versions and this machine, by name."""
