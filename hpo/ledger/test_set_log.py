"""Every look at the test set, noted in the ledger before it is taken.

A test accuracy looked at twice is no longer an unbiased one. So a look counts from the moment it becomes possible, also
where the process died in it or with a later seed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.home import NAME, Home
from hpo.spec.training import Training


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
        from hpo.ledger.reader import load_study

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
        from hpo.ledger.writer import record_opening

        assert self.study is not None
        record_opening(self._storage, self.study, f"{self._command}/{seed}", self._begun[seed])

    def retrained(self, results: Mapping[str, Any]) -> None:
        """What all seeds together have shown."""
        if self._trial is not None:
            from hpo.ledger.writer import record_retraining

            assert self.study is not None
            entry = {"command": self._command, "trial": self._trial, **results, "recorded": time.time()}
            record_retraining(self._storage, self.study, entry)


def ledger_with(home: Home, name: str) -> Any:
    """The ledger that holds a study of that name, None where there is none."""
    from hpo.ledger.reader import study_names
    from hpo.ledger.storage import open_existing

    if not NAME.fullmatch(name):
        return None
    if home.ledger_of(name) == home.ledger_url and not (home.path / "optuna.db").is_file():
        return None
    storage = open_existing(home, name)
    return storage if name in study_names(storage) else None
