"""Every look at the test set, noted in the ledger before it is taken.

A test accuracy looked at twice is no longer an unbiased one. So a look counts from the moment it becomes possible, also
where the process died in it or with a later seed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.home import Home
from hpo.ledger import attributes as form
from hpo.ledger.reader import ledger_with, load_study
from hpo.ledger.storage import patiently
from hpo.spec.training import Training

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class Openings:
    """The looks of one `hpo retrain`, one per seed, in the ledger of the study that its configuration comes from.

    Where this home folder does not have that study there is nowhere to note them, and nothing is.
    """

    def __init__(self, training: Training, home: Home) -> None:
        self._command = uuid.uuid4().hex
        self._begun: dict[int, dict[str, Any]] = {}
        self._trial: int | None = None
        self.before: int | None = None
        """How many earlier commands opened the test set for this configuration; None where the study is not here."""
        source = training.provenance
        self.study = source.study if source else None
        self._storage: Any = ledger_with(home, self.study) if self.study else None
        if source is None or self.study is None or source.trial is None or self._storage is None:
            return

        study = load_study(self._storage, self.study)
        if {trial.number: trial.seed for trial in study.trials}.get(source.trial) != source.seed:
            return  # another study of the same name
        self._trial = source.trial
        looks = [*study.info["openings"], *study.info["retrainings"]]
        earlier = [one for one in looks if one["trial"] == source.trial]
        # Retrainings of earlier versions noted no single looks.
        self.before = len({one.get("command", place) for place, one in enumerate(earlier)})

    def begin(self, seed: int, folder: Path) -> None:
        """To be called right before the test set is opened for the model of that seed."""
        if self._trial is not None:
            began = {"command": self._command, "trial": self._trial, "seed": seed, "opened": time.time()}
            self._begun[seed] = began | {"output": str(folder.absolute()), "test_accuracy": None}
            self._note(seed)

    def end(self, seed: int, accuracy: float) -> None:
        """What the model of that seed had right."""
        if self._trial is not None:
            self._begun[seed]["test_accuracy"] = accuracy
            self._note(seed)

    def _note(self, seed: int) -> None:

        assert self.study is not None
        record_opening(self._storage, self.study, f"{self._command}/{seed}", self._begun[seed])

    def retrained(self, results: Mapping[str, Any]) -> None:
        """What all seeds together have shown."""
        if self._trial is not None:
            assert self.study is not None
            entry = {"command": self._command, "trial": self._trial, **results, "recorded": time.time()}
            record_retraining(self._storage, self.study, entry)


def record_opening(storage: BaseStorage, name: str, key: str, entry: Mapping[str, Any]) -> None:
    """Note one look at the test set, or complete what is noted under that key.

    An attribute of its own, so that it can disturb neither a driver at work on the study nor another look.
    """
    import optuna

    study = optuna.load_study(study_name=name, storage=storage)
    patiently(storage, lambda: study.set_user_attr(form.OPENING_KEY + key, dict(entry)))


def record_retraining(storage: BaseStorage, name: str, entry: Mapping[str, Any]) -> None:
    """Note what a configuration of the study, trained again, has shown on the test set."""
    import optuna

    study = optuna.load_study(study_name=name, storage=storage)
    before = list(study.user_attrs.get(form.RETRAININGS_KEY, []))
    study.set_user_attr(form.RETRAININGS_KEY, [*before, dict(entry)])
