"""Removes what MLflow has of a study. Repeatable: a second call removes what the first did not."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hpo.files import folder_bytes
from hpo.home import Home
from hpo.ledger.records import StudyRecord
from hpo.tracking.runs import Store
from hpo.tracking.upkeep.naming import experiment_of, find_experiment

if TYPE_CHECKING:
    from mlflow.entities import Run


class StudyRuns:
    """The runs of one study in MLflow, and the registered model of its retrained configurations."""

    def __init__(self, study: StudyRecord, home: Home) -> None:
        """
        Raises:
            InfrastructureError: MLflow's experiment is deleted.
            Exception: MLflow cannot be reached.
        """
        self._store = Store(study, home)
        self._home = home
        self._name = study.name
        own = study.spec.tracking.experiment is None
        self._experiment = find_experiment(self._store.client, experiment_of(study))
        self._removes_experiment = own and self._experiment is not None
        runs = self._store.runs if self._experiment is not None else None
        of_trials = [] if runs is None else [*runs.trials.values(), *runs.retrainings.values()]
        self._versions = self._store.client.search_model_versions(f"name = '{study.name}'") if of_trials else []
        self._owns_model = {version.run_id for version in self._versions} <= {
            run.info.run_id for each in of_trials for run in each
        }
        self._runs = [] if runs is None else [*runs.parents, *(run for each in of_trials for run in each)]

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def bytes(self) -> int:
        """Size of their files in the home folder."""
        return sum(folder_bytes(self._files(run)) for run in self._runs)

    @property
    def model(self) -> str | None:
        """What becomes of the registered model, in words; None if there is none."""
        if not self._versions:
            return None
        count = f"{len(self._versions)} version{'s' if len(self._versions) > 1 else ''}"
        said = f"MLflow: the registered model {self._name} with {count}"
        return said if self._owns_model else f"{said} stays, because it has versions of other studies"

    def remove(self) -> None:
        """Delete the runs, the study's own last, and then what held only them. MLflow can restore the records."""
        for run in reversed(self._runs):
            self._store.delete(run)
            shutil.rmtree(self._files(run), ignore_errors=True)
        self._remove_model()
        if self._removes_experiment:
            self._remove_experiment()

    def _files(self, run: Run) -> Path:
        """The folder of a run's files; one that does not exist if they lie outside of the home folder."""
        parts = urlsplit(run.info.artifact_uri or "")
        folder = Path(unquote(parts.path)).parent
        own = folder.name == run.info.run_id and folder.is_relative_to(self._home.artifacts)
        return folder if own and parts.scheme == "file" else self._home.artifacts / run.info.run_id / "elsewhere"

    def _remove_model(self) -> None:
        """Remove the registered model, unless another study's run has a version of it."""
        if self._versions and self._owns_model:
            self._store.client.delete_registered_model(self._name)

    def _remove_experiment(self) -> None:
        """Delete the experiment of that name if no run is left in it. MLflow keeps the names of deleted experiments, so
        it gets another one, and a new study may have its name."""
        client, experiment = self._store.client, self._store.experiment
        if not client.search_runs([experiment], max_results=1):
            client.rename_experiment(experiment, f"{self._name} (removed {time.strftime('%F %T')})")
            client.delete_experiment(experiment)
