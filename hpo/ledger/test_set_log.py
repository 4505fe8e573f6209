"""A log of test-set evaluations, kept in the ledger.

A test accuracy that somebody has seen and acted on is no longer unbiased. So an evaluation counts from the moment it
begins, even if the process dies during it or while it trains a later seed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.home import Home
from hpo.ledger.attributes import RETRAININGS_KEY, TEST_SET_PREFIX
from hpo.ledger.reader import ledger_with, load_study
from hpo.ledger.storage import patiently
from hpo.spec.configure import changes, configure
from hpo.spec.paths import training_with_absolute_paths
from hpo.spec.training import Training

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
        self.before: int | None = None
        """How many earlier commands evaluated this configuration on the test set; None if the study is not here."""
        self.variants = 0
        """How many earlier commands evaluated the same trial with other changes."""
        self.changes: dict[str, str] = {}
        """The settings that differ from those of the trial: see `hpo.spec.configure.changes`."""
        source = training.provenance
        self.study = source.study if source else None
        self._storage: Any = ledger_with(home, self.study) if self.study else None
        if source is None or self.study is None or source.trial is None or self._storage is None:
            return

        study = load_study(self._storage, self.study)
        trial = next((trial for trial in study.trials if trial.number == source.trial), None)
        if trial is None or trial.seed != source.seed:
            return  # another study of the same name
        self._trial = source.trial
        own = Training.of(configure(study.spec.base(), trial.assigned))
        # Earlier versions kept relative paths of weights.
        self.changes = changes(training.config(), training_with_absolute_paths(own).config())
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
