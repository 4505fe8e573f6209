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


def training(study: StudyRecord, number: int | None = None) -> Training:
    """The resolved training configuration of a trial, by default of the best complete one.

    Raises:
        UsageError: no such trial, or none is complete yet.
    """
    trial = _pick(study, number)
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


def _pick(study: StudyRecord, number: int | None) -> TrialRecord:
    if number is not None:
        found = next((trial for trial in study.trials if trial.number == number), None)
        if found is None:
            raise UsageError(f"study {study.name} has no trial {number}; it has {len(study.trials)}")
        return found
    if study.best is None:
        raise UsageError(
            f"study {study.name} has no complete trial yet; watch it by `hpo status {study.name}`, "
            f"or export a certain trial by --trial N"
        )
    return study.best


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
