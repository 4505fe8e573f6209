"""The best configuration as a file that `hpo retrain` accepts anywhere."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hpo import space
from hpo.errors import UsageError
from hpo.records import StudyRecord, TrialRecord
from hpo.summary import percent
from hpo.training import Provenance, Training

_NONE_COMPLETE = (
    "study {name} has no complete trial yet; watch it by `hpo status {name}`, or export a certain trial by --trial N"
)


def training(study: StudyRecord, number: int | None = None) -> Training:
    """The resolved training configuration of a trial, by default of the best complete one.

    Raises:
        UsageError: no such trial, or none is complete yet.
    """
    trial = pick(study, number)
    config = space.configure(study.spec.base(), trial.values)
    versions = dict(study.info.get("versions", {}))
    if commit := study.info.get("git_commit"):
        versions["git_commit"] = commit
    return Training.of(
        config,
        Provenance(
            study=study.name,
            trial=trial.number,
            val_accuracy=trial.value,
            epochs=len(trial.epochs),
            seed=trial.seed,
            split_hash=study.info.get("data", {}).get("split_hash"),
            versions=versions,
            trainer=study.spec.trainer,
        ),
        description=f"Trial {trial.number} of study {study.name}, validation accuracy {percent(trial.value)}",
    )


def leaders(study: StudyRecord, count: int) -> list[TrialRecord]:
    """The best complete trials, at most `count`, the best first; ties go to the earlier one.

    Raises:
        UsageError: none is complete yet.
    """
    complete = [trial for trial in study.trials if trial.complete]
    if not complete:
        raise UsageError(_NONE_COMPLETE.format(name=study.name))
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))[:count]


def pick(study: StudyRecord, number: int | None) -> TrialRecord:
    """The trial of that number, or the best complete one.

    Raises:
        UsageError: there is no such trial, or none is complete yet.
    """
    if number is not None:
        found = next((trial for trial in study.trials if trial.number == number), None)
        if found is None:
            raise UsageError(f"study {study.name} has no trial {number}; it has {len(study.trials)}")
        return found
    return leaders(study, 1)[0]


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content in one step; a reader sees the old text or the new one.

    Raises:
        UsageError: the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
