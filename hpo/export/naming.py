"""The name of a study in what was exported from it: `best.yaml`, configurations, and retrained models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hpo.files import write_atomically
from hpo.home import Home
from hpo.ledger.records import StudyRecord
from hpo.spec.training import Training
from hpo.validation.partial import partial_model
from hpo.validation.yaml_reader import read


def rename_in_files(study: StudyRecord, old: str, home: Home) -> Iterator[Path]:
    """Give the files of a renamed study in the home folder its name; yields those that had the name `old`.

    A file that was copied elsewhere keeps the old name. It is still known to be of this study.
    """
    files = [
        home.incumbent(study.name),
        *sorted(home.exports(study.name).rglob("*.yaml")),
        *sorted((home.path / "retrained").rglob("training.yaml")),
    ]
    for file in files:
        if file.is_file() and (text := _renamed(file.read_text(encoding="utf-8"), study, old)) is not None:
            write_atomically(file, text)
            yield file


def _renamed(text: str, study: StudyRecord, old: str) -> str | None:
    """The text of a configuration with the new name; None if it is none of this study, or has that name already."""
    first, line, rest = text.partition("\n")
    if first.startswith("# Trial "):  # for timm
        named = first.replace(f" of study {old}, ", f" of study {study.name}, ", 1)
        return f"{named}{line}{rest}" if named != first else None
    partial = partial_model(read(text), Training, {})
    found = partial.model if not partial.problems else None  # what a person has broken stays as it is
    source = found.provenance if found else None
    if found is None or source is None or source.study != old:
        return None
    seeds = {trial.number: trial.seed for trial in study.trials}
    if source.trial is None or seeds.get(source.trial) != source.seed:
        return None  # of another study that had this name
    description = found.description.replace(f"of study {old}", f"of study {study.name}", 1)
    provenance = source.model_copy(update={"study": study.name})
    return found.model_copy(update={"provenance": provenance, "description": description}).to_yaml()
