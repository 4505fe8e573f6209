"""`hpo rm`: remove a study and its confirmation from MLflow, from the disk and from the ledger, in this order.

The ledger goes last, because it tells what else there is: after half a removal a second call removes the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from hpo.driver.steering.holding import held, ledger_if_there
from hpo.errors import HpoError, InfrastructureError, UsageError
from hpo.files import folder_bytes
from hpo.home import Home, confirmed_study
from hpo.ledger.attributes import SPEC_KEY, info_of
from hpo.ledger.reader import checked_attributes, load_study, open_existing, study_names, unknown_study
from hpo.ledger.records import FORMER_NAMES, StudyRecord
from hpo.ledger.tables.removal import remove_study
from hpo.redact import as_reason, redact
from hpo.spec.study import Spec
from hpo.text import first_line, size
from hpo.tracking.upkeep.removal import StudyRuns


@dataclass
class Remains:
    """What there is of a study."""

    name: str
    home: Home
    storage: Any = None
    studies: tuple[StudyRecord, ...] = ()
    """Its confirmation, if there is one, and the study itself; empty after the ledger was removed."""
    runs: list[StudyRuns] = field(default_factory=list)
    """Of the same studies in MLflow; empty where they are kept."""
    named_by: tuple[str, ...] = ()
    """Other studies whose `warm_start` names it. They keep what they took over."""

    def lines(self) -> Iterator[str]:
        """What goes, for the person who is asked."""
        for study in self.studies:
            yield f"{study.name}: {len(study.trials)} trials"
        if count := sum(map(len, self.runs)):
            yield f"MLflow: {count} runs, {size(sum(runs.bytes for runs in self.runs))} of files"
        yield from (runs.model for runs in self.runs if runs.model)
        yield f"{self.home.study(self.name)}: {size(folder_bytes(self.home.study(self.name)))}"
        for place in self._checkpoints_elsewhere():
            yield f"checkpoints in {redact(place)}"
        if self.named_by:
            yield f"warm_start of {', '.join(self.named_by)} names it; what they took over stays theirs"

    def to_json(self) -> dict[str, Any]:
        """What goes, in numbers, for programs."""
        files = sum(runs.bytes for runs in self.runs)
        return {
            "study": self.name,
            "trials": sum(len(study.trials) for study in self.studies),
            "mlflow_runs": sum(map(len, self.runs)),
            "bytes": files + folder_bytes(self.home.study(self.name)),
            "removed": list(self.lines()),
        }

    def remove(self) -> None:
        """Remove all of it."""
        for runs in self.runs:
            runs.remove()
        for place in self._checkpoints_elsewhere():
            system, path = fsspec.core.url_to_fs(place)
            with suppress(FileNotFoundError):
                system.rm(path, recursive=True)
        for study in self.studies:
            remove_study(self.storage, study.name)
        shutil.rmtree(self.home.study(self.name))

    def _checkpoints_elsewhere(self) -> list[str]:
        """Folders or URIs of checkpoints outside of the study's folder."""
        places = [self.home.checkpoints(study.name, study.spec.storage.checkpoints) for study in self.studies]
        return [place for place in places if not Path(place).is_relative_to(self.home.study(self.name))]


@contextmanager
def removal(
    name: str, home: Home, *, keep_mlflow: bool = False, say: Callable[[str], None] = lambda text: None
) -> Iterator[Remains]:
    """Hold a study that no driver runs, so that the block can show and remove what there is of it.

    Raises:
        UsageError: there is no such study, or a driver runs it or its confirmation.
        InfrastructureError: MLflow or the ledger cannot be reached.
    """
    if (confirmed := confirmed_study(name)) is not None:
        raise UsageError(f"{name} belongs to {confirmed}; remove both with `{home.command(f'rm {confirmed}')}`")
    home.refuse_half_renamed(name)
    folder = home.study(name)
    storage: Any = ledger_if_there(home, name)
    recorded = storage is not None and name in study_names(storage)
    if not recorded and not folder.is_dir():
        raise unknown_study(open_existing(home) if storage is None else storage, name)
    with held(storage if recorded else None, name, folder, say) as names:
        remains = Remains(name, home, storage)
        remains.studies = tuple(load_study(storage, study) for study in names)
        remains.named_by = _named_by(storage, name) if recorded else ()
        if not keep_mlflow:
            remains.runs = [_runs(study, home) for study in remains.studies if study.spec.tracking.enabled]
        yield remains


def _named_by(storage: Any, name: str) -> tuple[str, ...]:
    """The other studies whose `warm_start` names it, also by a name that it had before."""
    names = {name, *info_of(checked_attributes(storage, name)).get(FORMER_NAMES, ())}
    others = [study for study in study_names(storage) if study != name]
    return tuple(other for other in others if names & set(_warm_start(checked_attributes(storage, other))))


def _warm_start(attributes: Any) -> tuple[str, ...]:
    return Spec.from_json(attributes[SPEC_KEY]).warm_start


def _runs(study: StudyRecord, home: Home) -> StudyRuns:
    try:
        return StudyRuns(study, home)
    except HpoError:
        raise
    except Exception as error:  # MLflow and its stores raise errors of many kinds
        raise InfrastructureError(
            f"MLflow cannot be asked for the runs of {study.name}: {first_line(as_reason(str(error)))}; "
            "remove the study without them by --keep-mlflow"
        ) from error
