"""Retrained configurations of a study: a run each, its model logged and registered under the study's name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import InfrastructureError
from hpo.ledger.records import StudyRecord
from hpo.results.confirmation import chosen
from hpo.tracking.runs import RETRAINING_TAG, Store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
NAME = "model"
EXAMPLES = 2
"""Images of the example that goes with a model: one would make the exported batch size a constant."""


class Models:
    """Brings retrainings and their models in line with the ledger; repeating anything changes nothing.

    Of several seeds the first one's model is logged: to choose by test accuracy would be to train on the test set.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # --------------------------------------------------------------------------------------- writing

    def sync(self, study: StudyRecord) -> bool:
        """Write what MLflow lacks; whether there is a champion.

        Raises:
            InfrastructureError: a logged model computes something else than the one in the folder.
        """
        for place, entry in enumerate(retrainings(study)):
            run = self._run(place) or self._create(place, entry)
            if run.info.status != "FINISHED":
                self._send(study, run, entry)
                if _folder(entry):
                    self._register(study, str(run.info.run_id), entry)
                self._store.client.set_terminated(run.info.run_id, "FINISHED")
            elif _folder(entry) and not self._versions(study, run):
                self._register(study, str(run.info.run_id), entry)
        champion = self._champion(study)
        if champion and self._holder(study) != str(champion.version):
            self._store.client.set_registered_model_alias(study.name, CHAMPION, champion.version)
        return champion is not None

    def _run(self, place: int) -> Run | None:
        found = self._store.runs.retrainings.get(place, [])
        return found[-1] if found else None

    def _create(self, place: int, entry: Mapping[str, Any]) -> Run:
        tags = {RETRAINING_TAG: str(place), "hpo.retrained_trial": str(entry["trial"])}
        run = self._store.create_child(f"retrain-{entry['trial']:05d}", tags, entry.get("recorded"))
        self._store.runs.retrainings.setdefault(place, []).append(run)
        return run

    def _send(self, study: StudyRecord, run: Run, entry: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param

        at = int((entry.get("recorded") or study.info.get("created") or 0) * 1000)
        values = {"test_accuracy": entry["test_accuracy"], "test_accuracy_std": entry["test_accuracy_std"]}
        metrics = [Metric(key, value, at, 0) for key, value in values.items() if value is not None]
        metrics += [
            Metric("test_accuracy_of_seed", value, at, seed)
            for seed, value in zip(entry["seeds"], entry["test_accuracies"], strict=True)
        ]
        trial = next(one for one in study.trials if one.number == entry["trial"])
        parameters = [Param(key, str(value)) for key, value in trial.values.items()]
        self._store.client.log_batch(run.info.run_id, metrics, parameters)

    def _register(self, study: StudyRecord, run_id: str, entry: Mapping[str, Any]) -> None:
        from mlflow.exceptions import MlflowException

        folder = _folder(entry)
        assert folder is not None  # the caller has looked
        model = self._logged(run_id) or self._log(run_id, folder)
        client = self._store.client
        try:
            client.get_registered_model(study.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            client.create_registered_model(study.name, description=f"Retrained configurations of study {study.name}")
        tags = {"hpo.trial": entry["trial"], "hpo.seed": entry["seeds"][0], "test_accuracy": entry["test_accuracy"]}
        # By its location: MLflow's database looks `models:/ID` up wherever the process tracks by default.
        place, identifier = model.artifact_location, model.model_id
        client.create_model_version(study.name, place, run_id=run_id, model_id=identifier, tags=tags)

    def _logged(self, run_id: str) -> LoggedModel | None:
        """The run's model, if it was logged to the end."""
        found = self._store.client.search_logged_models([self._store.experiment], f"source_run_id = '{run_id}'")
        return next((model for model in found if model.status == "READY"), None)

    def _log(self, run_id: str, folder: Path) -> LoggedModel:
        """What `mlflow.pytorch.log_model` does, by a client of our own: that function sets a URI for all threads."""
        import mlflow
        import numpy as np
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        from trainers.formats import agree, example

        shown = example(folder, EXAMPLES)
        given, made = (
            Schema([TensorSpec(np.dtype(np.float32), (-1, *one.shape[1:]))]) for one in (shown.images, shown.logits)
        )
        client = self._store.client
        model = client.create_logged_model(self._store.experiment, NAME, run_id, model_type="classifier")
        described = Model(model.artifact_location, run_id, model_uuid=model.model_id, model_id=model.model_id)
        with tempfile.TemporaryDirectory() as scratch:
            path = f"{scratch}/{NAME}"
            mlflow.pytorch.save_model(
                shown.net,
                path,
                mlflow_model=described,
                signature=ModelSignature(given, made),
                input_example=shown.images,
                serialization_format="pt2",  # a graph and tensors: nothing that loading it could execute
                pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "torch")],
                metadata=shown.settings,
            )
            if not agree(shown.logits, mlflow.pyfunc.load_model(path).predict(shown.images)):
                raise InfrastructureError(f"the model as MLflow loads it computes something else than {folder}")
            client.log_model_artifacts(model.model_id, path)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return client.finalize_logged_model(model.model_id, "READY")

    # ------------------------------------------------------------------------------- compare and repair

    def differences(self, study: StudyRecord) -> Iterator[str]:
        """What MLflow lacks or has otherwise; models whose folders are gone cannot be missed."""
        expected = retrainings(study)
        for place in sorted(self._store.runs.retrainings.keys() - set(range(len(expected)))):
            yield f"retraining {place} has a run but is not in the ledger"
        for place, entry in enumerate(expected):
            run = self._run(place)
            if run is None:
                yield f"retraining {place} (trial {entry['trial']}) has no run"
            elif run.info.status != "FINISHED":
                yield f"retraining {place} (trial {entry['trial']}) is {run.info.status}, not FINISHED"
            elif _folder(entry) and not self._versions(study, run):
                yield f"retraining {place} (trial {entry['trial']}) has no registered model"
        champion = self._champion(study)
        if champion and self._holder(study) != str(champion.version):
            yield f"the alias {CHAMPION} of model {study.name} does not stand at version {champion.version}"

    def repair(self, study: StudyRecord) -> None:
        """Delete runs of retrainings that the ledger does not know, and write what is missing."""
        there = self._store.runs.retrainings
        for place in list(there.keys() - set(range(len(retrainings(study))))):
            for run in there.pop(place):
                self._store.delete(run)
        self.sync(study)

    def _champion(self, study: StudyRecord) -> ModelVersion | None:
        """The newest registered model of the configuration that a confirmation chose, else of the best trial."""
        confirmed = chosen(study)
        best = confirmed.trial if confirmed else study.best.number if study.best else None
        for place, entry in reversed(list(enumerate(retrainings(study)))):
            run = self._run(place)
            if entry["trial"] == best and run is not None:
                versions = self._versions(study, run)
                if versions:
                    return max(versions, key=lambda one: int(one.version))
        return None

    def _versions(self, study: StudyRecord, run: Run) -> list[ModelVersion]:
        query = f"name = '{study.name}' and run_id = '{run.info.run_id}'"
        return list(self._store.client.search_model_versions(query))

    def _holder(self, study: StudyRecord) -> str | None:
        """The version that the alias stands at."""
        found = self._store.client.search_registered_models(f"name = '{study.name}'")
        aliases: Mapping[str, str] = found[0].aliases if found else {}
        held = aliases.get(CHAMPION)
        return None if held is None else str(held)


def retrainings(study: StudyRecord) -> Sequence[Mapping[str, Any]]:
    """Every time a configuration of the study met the test set, the oldest first."""
    return list(study.info.get("retrainings", ()))


def _folder(entry: Mapping[str, Any]) -> Path | None:
    """Where the first seed's model is, if it is still there."""
    output, seeds = Path(entry["output"]), entry["seeds"]
    folder = output / f"seed-{seeds[0]}" if len(seeds) > 1 else output
    return folder if os.path.isfile(folder / "model.safetensors") else None
