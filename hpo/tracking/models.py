"""Retrained configurations of a study: a run for each, and its model, registered under the name of the study."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import InfrastructureError
from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.ledger.records import StudyRecord
from hpo.redact import as_reason
from hpo.results.winner import winner
from hpo.text import first_line
from hpo.tracking.preflight import check_tracking
from hpo.tracking.runs import Store, ms, parameters
from hpo.tracking.upkeep.naming import RETRAINING_TAG, model_description

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
NAME = "model"
EXAMPLES = 2
"""Images of the example that is stored with a model. With a single image the batch size would become a constant."""


class Models:
    """Brings retrainings and their models in line with the ledger; repeating a call changes nothing.

    With several seeds, the model of the first one is stored. A choice by test accuracy would bias the test result.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # --------------------------------------------------------------------------------------- writing

    def sync(self, study: StudyRecord) -> bool:
        """Write what MLflow lacks; returns whether the model has a champion.

        Raises:
            InfrastructureError: the model that MLflow loads disagrees with the model in the folder.
        """
        for position, entry in enumerate(retrainings(study)):
            run = self._run(position) or self._create(position, entry)
            if run.info.status != "FINISHED":
                self._send(study, run, entry)
                self._store.client.set_terminated(run.info.run_id, "FINISHED", ms(entry.get("recorded")))
            if _folder(entry) and not self._versions(study, run):
                self._store.files.attempt(partial(self._register, study, str(run.info.run_id), entry))
        champion = self._champion(study)
        if champion and self._holder(study) != str(champion.version):
            self._store.client.set_registered_model_alias(study.name, CHAMPION, champion.version)
        return champion is not None

    def _run(self, position: int) -> Run | None:
        runs = self._store.runs.retrainings.get(position, [])
        return runs[-1] if runs else None

    def _create(self, position: int, entry: Mapping[str, Any]) -> Run:
        tags = {RETRAINING_TAG: str(position), "hpo.retrained_trial": str(entry["trial"])}
        if entry.get("changes"):
            tags["hpo.changes"] = _changes(entry)
        run = self._store.create_child(f"retrain-{entry['trial']:05d}", tags, entry.get("recorded"))
        self._store.runs.retrainings.setdefault(position, []).append(run)
        return run

    def _send(self, study: StudyRecord, run: Run, entry: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param

        at = int((entry.get("recorded") or study.info.get("created") or 0) * 1000)
        values = {"test_accuracy": entry["test_accuracy"], "test_accuracy_std": entry["test_accuracy_std"]}
        metrics = [Metric(key, value, at, 0) for key, value in values.items() if value is not None]
        metrics += [
            Metric("test_accuracy_of_seed", value, at, seed)
            for seed, value in zip(entry["seeds"], entry["test_accuracies"], strict=False)  # none without test images
        ]
        trial = next(trial for trial in study.trials if trial.number == entry["trial"])
        values = {**trial.assigned, **entry.get("changes", {})}
        searched = [Param(key, text) for key, text in parameters(values).items()]
        self._store.client.log_batch(run.info.run_id, metrics, searched)

    def _register(self, study: StudyRecord, run_id: str, entry: Mapping[str, Any]) -> None:
        from mlflow.exceptions import MlflowException

        folder = _folder(entry)
        assert folder is not None  # the caller has checked
        model = self._logged(run_id) or self._log(run_id, folder)
        client = self._store.client
        try:
            client.get_registered_model(study.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            client.create_registered_model(study.name, description=model_description(study.name))
        tags = {"hpo.trial": entry["trial"], "hpo.seed": entry["seeds"][0]}
        if entry["test_accuracy"] is not None:  # else the data set has no test images
            tags["test_accuracy"] = entry["test_accuracy"]
        if entry.get("changes"):
            tags["hpo.changes"] = _changes(entry)
        # The location, not `models:/ID`: MLflow resolves the latter in the process's default store.
        location, identifier = model.artifact_location, model.model_id
        client.create_model_version(study.name, location, run_id=run_id, model_id=identifier, tags=tags)

    def _logged(self, run_id: str) -> LoggedModel | None:
        """The run's model, if it was stored completely."""
        models = self._store.client.search_logged_models([self._store.experiment], f"source_run_id = '{run_id}'")
        return next((model for model in models if model.status == "READY"), None)

    def _log(self, run_id: str, folder: Path) -> LoggedModel:
        """Store the model as `mlflow.pytorch.log_model` does, which would set a tracking URI for all threads."""
        import mlflow
        import numpy as np
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, DataType, Schema, TensorSpec

        from trainers.formats import agree, example

        shown = example(folder, EXAMPLES)
        inputs = Schema([TensorSpec(np.dtype(np.float32), (-1, *shown.images.shape[1:]))])
        # A tensor's axis has no names in a signature, but columns have: one for the logits of each class.
        outputs = Schema([ColSpec(DataType.float, name) for name in shown.settings["label_names"]])
        client = self._store.client
        model = client.create_logged_model(self._store.experiment, NAME, run_id, model_type="classifier")
        described = Model(model.artifact_location, run_id, model_uuid=model.model_id, model_id=model.model_id)
        with tempfile.TemporaryDirectory() as scratch:
            path = f"{scratch}/{NAME}"
            mlflow.pytorch.save_model(
                shown.net,
                path,
                mlflow_model=described,
                signature=ModelSignature(inputs, outputs),
                input_example=shown.images,
                serialization_format="pt2",  # a graph and tensors; loading it executes no code of the file
                pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "torch")],
                metadata=shown.settings,
            )
            if not agree(shown.logits, mlflow.pyfunc.load_model(path).predict(shown.images)):
                raise InfrastructureError(f"the model that MLflow loads disagrees with the model in {folder}")
            try:
                client.log_model_artifacts(model.model_id, path)
            except Exception:
                client.finalize_logged_model(model.model_id, "FAILED")
                raise
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return client.finalize_logged_model(model.model_id, "READY")

    # ------------------------------------------------------------------------------- compare and repair

    def differences(self, study: StudyRecord) -> Iterator[str]:
        """What differs between MLflow and the ledger, a line each. Models without a folder are not expected."""
        expected = retrainings(study)
        for position in sorted(self._store.runs.retrainings.keys() - set(range(len(expected)))):
            yield f"retraining {position} has a run but is not in the ledger"
        for position, entry in enumerate(expected):
            run = self._run(position)
            if run is None:
                yield f"retraining {position} (trial {entry['trial']}) has no run"
            elif run.info.status != "FINISHED":
                yield f"retraining {position} (trial {entry['trial']}) is {run.info.status}, not FINISHED"
        champion = self._champion(study)
        if champion and self._holder(study) != str(champion.version):
            yield f"the alias {CHAMPION} of model {study.name} does not point to version {champion.version}"

    def file_differences(self, study: StudyRecord) -> Iterator[str]:
        """Which retrainings have no model, though their folder is there."""
        for position, entry in enumerate(retrainings(study)):
            run = self._run(position)
            if run is not None and run.info.status == "FINISHED" and _folder(entry) and not self._versions(study, run):
                yield f"retraining {position} (trial {entry['trial']}) has no registered model"

    def repair(self, study: StudyRecord) -> None:
        """Delete the runs of retrainings that are not in the ledger, and write what is missing."""
        runs = self._store.runs.retrainings
        for position in list(runs.keys() - set(range(len(retrainings(study))))):
            for run in runs.pop(position):
                self._store.delete(run)
        self.sync(study)

    def _champion(self, study: StudyRecord) -> ModelVersion | None:
        """The newest registered model of the configuration that a confirmation chose, else of the best trial."""
        for position, entry in reversed(list(enumerate(retrainings(study)))):
            run = self._run(position)
            if _is_winners(study, entry) and run is not None:
                versions = self._versions(study, run)
                if versions:
                    return max(versions, key=lambda version: int(version.version))
        return None

    def _versions(self, study: StudyRecord, run: Run) -> list[ModelVersion]:
        query = f"name = '{study.name}' and run_id = '{run.info.run_id}'"
        return list(self._store.client.search_model_versions(query))

    def _holder(self, study: StudyRecord) -> str | None:
        """The version that the alias points to."""
        models = self._store.client.search_registered_models(f"name = '{study.name}'")
        aliases: Mapping[str, str] = models[0].aliases if models else {}
        version = aliases.get(CHAMPION)
        return None if version is None else str(version)


def publish(home: Home, name: str) -> str:
    """Bring a study's retrainings and their models into MLflow; returns the result as a sentence for the person.

    An error is only reported, because nothing is lost: the ledger has the retrainings.
    """
    study = read_study(home, name)
    if not study.spec.tracking.enabled:
        return f"{name} is not tracked in MLflow (tracking.enabled is false)"
    try:
        check_tracking(study.spec, home)
        store = Store(study, home)
        has_champion = Models(store).sync(study)
        if store.file_trouble:
            return f"warning: {store.file_trouble}"
        newest = retrainings(study)[-1:]
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises, the training has succeeded
        reason = first_line(as_reason(str(error)))
        return f"warning: MLflow does not have the model yet: {reason}. Write it with: {home.command(f'doctor {name}')}"
    is_champion = has_champion and all(_is_winners(study, entry) for entry in newest)
    return f"in MLflow: models:/{name}@{CHAMPION}" if is_champion else f"in MLflow: model {name}"


def retrainings(study: StudyRecord) -> Sequence[Mapping[str, Any]]:
    """The ledger's entries of every retraining of a configuration of the study, the oldest first."""
    return list(study.info.get("retrainings", ()))


def _is_winners(study: StudyRecord, entry: Mapping[str, Any]) -> bool:
    """Whether a retraining is one of the study's best trial, with that trial's own configuration."""
    best = winner(study)
    return best is not None and entry["trial"] == best.trial.number and not entry.get("changes")


def _changes(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{path}={value}" for path, value in entry["changes"].items())[:5000]


def _folder(entry: Mapping[str, Any]) -> Path | None:
    """The folder of the first seed's model; None if the model is gone."""
    output, seeds = Path(entry["output"]), entry["seeds"]
    folder = output / f"seed-{seeds[0]}" if len(seeds) > 1 else output
    return folder if os.path.isfile(folder / "model.safetensors") else None
