"""A log of test-set evaluations, kept in the ledger.

A test accuracy that somebody has seen and acted on is no longer unbiased. So an evaluation counts from the moment it
begins, even if the process dies during it or while it trains a later seed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.home import NAME, Home
from hpo.ledger.attributes import RETRAININGS_KEY, TEST_SET_PREFIX
from hpo.ledger.reader import ledger_with, load_study
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage, patiently
from hpo.ledger.tables.renaming import called_before
from hpo.spec.configure import changes, configure
from hpo.spec.paths import training_with_absolute_paths
from hpo.spec.training import Provenance, Training
from hpo.sqlite_urls import sqlite_file

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class TestSetLog:
    """Logs the test-set evaluations of one `hpo retrain`, one per seed, in the study that its configuration comes from.

    If this home folder does not hold that study, nothing is logged. A configuration that was changed is logged with its
    changes: its results are not those of the trial.
    """

    __test__ = False  # pytest must not collect this class

    def __init__(self, training: Training, home: Home) -> None:
        self._command = uuid.uuid4().hex
        self._entries: dict[int, dict[str, Any]] = {}
        self._trial: int | None = None
        self._storage: Any = None
        self._id: int | None = None
        """Of the study in the ledger: it may be renamed while the training goes on."""
        self.before: int | None = None
        """How many earlier commands evaluated this configuration on the test set; None if the study is not here."""
        self.variants = 0
        """How many earlier commands evaluated the same trial with other changes."""
        self.changes: dict[str, str] = {}
        """The settings that differ from those of the trial: see `hpo.spec.configure.changes`."""
        source = training.provenance
        self._named = source.study if source else None
        found = _origin(training, source, home) if source else None
        if source is None or found is None:
            return
        self._storage, study, self.changes = found
        self._id = self._storage.get_study_id_from_name(study.name)
        self._trial = source.trial
        tested = [entry for entry in study.info["retrainings"] if entry["test_accuracy"] is not None]
        entries = [*study.info["test_set_evaluations"], *tested]
        # Earlier versions of this tool logged a whole retraining only, without its command, and no changes.
        earlier = {
            entry.get("command", place): entry.get("changes", {}) == self.changes
            for place, entry in enumerate(entries)
            if entry["trial"] == source.trial
        }
        self.before = sum(earlier.values())
        self.variants = len(earlier) - self.before

    @property
    def study(self) -> str | None:
        """The name of the study now; if it is not here, the name that the configuration has."""
        return self._named if self._id is None else str(self._storage.get_study_name_from_id(self._id))

    def begin(self, seed: int, folder: Path) -> None:
        """Log that the model of this seed is about to be evaluated. Call it right before the test set is read."""
        if self._trial is not None:
            entry = self._entry() | {"seed": seed, "opened": time.time()}
            self._entries[seed] = entry | {"output": str(folder.absolute()), "test_accuracy": None}
            self._record(seed)

    def end(self, seed: int, accuracy: float) -> None:
        """Log the test accuracy of the model of this seed, 0 to 1."""
        if self._trial is not None:
            self._entries[seed]["test_accuracy"] = accuracy
            self._record(seed)

    def _record(self, seed: int) -> None:
        assert self.study is not None
        record_evaluation(self._storage, self.study, f"{self._command}/{seed}", self._entries[seed])

    def retrained(self, results: Mapping[str, Any]) -> None:
        """Log the results of all seeds together."""
        if self._trial is not None:
            assert self.study is not None
            entry = self._entry() | {**results, "recorded": time.time()}
            record_retraining(self._storage, self.study, entry)

    def _entry(self) -> dict[str, Any]:
        return {"command": self._command, "trial": self._trial, "changes": self.changes}


def _origin(training: Training, source: Provenance, home: Home) -> tuple[Any, StudyRecord, dict[str, str]] | None:
    """The study that a configuration comes from: its ledger, its record, and the settings that were changed since.

    Studies that had one name one after the other may have given their trials the same seeds: the one is meant in which
    the trial has these settings.
    """
    first = None
    for storage, name in _studies_called(home, source.study) if source.study else ():
        study = load_study(storage, name)
        trial = next((trial for trial in study.trials if trial.number == source.trial), None)
        if trial is not None and trial.seed == source.seed:
            own = Training.of(configure(study.spec.base(), trial.assigned))  # earlier versions kept relative paths
            found = storage, study, changes(training.config(), training_with_absolute_paths(own).config())
            if not found[2]:
                return found
            first = first or found
    return first


def _studies_called(home: Home, name: str) -> Iterator[tuple[Any, str]]:
    """Every study of a home folder that has this name or had it before: its ledger, and its name now.

    Raises:
        InfrastructureError: a ledger cannot be opened.
    """
    if (storage := ledger_with(home, name)) is not None:
        yield storage, name
    folders = [path.name for path in (home.path / "studies").glob("*") if NAME.fullmatch(path.name)]
    for url in dict.fromkeys([home.ledger_url, *map(home.ledger_of, folders)]):
        file = sqlite_file(url)
        if file is None or file.is_file():
            storage = open_storage(url)
            yield from ((storage, now) for now in called_before(storage, name))


def record_evaluation(storage: BaseStorage, name: str, key: str, entry: Mapping[str, Any]) -> None:
    """Record one test-set evaluation, or replace the entry under that key.

    Each evaluation has an attribute of its own. So it cannot disturb a driver that is at work on the study, or another
    evaluation.
    """
    import optuna

    study = optuna.load_study(study_name=name, storage=storage)
    patiently(storage, lambda: study.set_user_attr(TEST_SET_PREFIX + key, dict(entry)))


def record_retraining(storage: BaseStorage, name: str, entry: Mapping[str, Any]) -> None:
    """Record the test results of a configuration of the study that was retrained."""
    import optuna

    study = optuna.load_study(study_name=name, storage=storage)
    before = list(study.user_attrs.get(RETRAININGS_KEY, []))
    study.set_user_attr(RETRAININGS_KEY, [*before, dict(entry)])
