"""Where a study is tracked, and the runs that it has there: found again by their tags, so nothing is made twice."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.home import NAME, Home, confirmed_study
from hpo.ledger.records import StudyRecord
from hpo.spec.study import Spec

if TYPE_CHECKING:
    from mlflow.entities import Run

STUDY_TAG, IDENTITY_TAG = "hpo.study", "hpo.identity"
TRIAL_TAG, RETRAINING_TAG = "hpo.trial", "hpo.retraining"
PARENT_TAG = "mlflow.parentRunId"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""What the UI shows: training runs with their descriptions and charts, not a language model's traces."""
LARGEST = 1.7976931348623157e308
"""What MLflow stores for infinity."""


def tracking_server(spec: Spec | None = None) -> str | None:
    """The URI that the specification sets, else `MLFLOW_TRACKING_URI`; None: MLflow in the home folder."""
    return (spec and spec.tracking.uri) or os.environ.get("MLFLOW_TRACKING_URI") or None


def tracking_uri(home: Home, spec: Spec | None = None) -> str:
    """The URI of the MLflow that a study is tracked in; without `spec`, that of a study which sets none itself."""
    return tracking_server(spec) or home.mlflow_url


def make_store(home: Home) -> None:
    """The home folder's MLflow database, whole or not at all: MLflow makes one in hundreds of steps and, killed among
    them, leaves one that it refuses to open ever after."""
    if (whole := home.path / "mlflow.db").exists():
        return
    from mlflow import MlflowClient

    home.cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mlflow-", dir=home.cache) as folder:
        first, second = Path(folder, "first.db"), Path(folder, "second.db")
        MlflowClient(tracking_uri=f"sqlite:///{first}").search_experiments(max_results=1)
        with closing(sqlite3.connect(first)) as made, closing(sqlite3.connect(second)) as copy:
            made.backup(copy)
        with suppress(FileExistsError):  # another driver was faster
            os.link(second, whole)


@dataclass
class Runs:
    """The runs of one study that are not deleted; of each the newest first."""

    parents: list[Run] = field(default_factory=list)
    trials: dict[int, list[Run]] = field(default_factory=dict)
    retrainings: dict[int, list[Run]] = field(default_factory=dict)
    """By their place among the study's retrainings."""


class Store:
    """MLflow as far as one study is concerned."""

    def __init__(self, study: StudyRecord, home: Home) -> None:
        # A dead server must cost seconds, not MLflow's default of minutes per call.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # with the password, if it has one
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self.uri = tracking_uri(home, study.spec)
        if self.uri == home.mlflow_url:
            make_store(home)
        self.client = MlflowClient(tracking_uri=self.uri)
        self._study = study
        self._home = home
        self._experiment: str | None = None
        self._runs: Runs | None = None

    @property
    def experiment(self) -> str:
        """The experiment's id; made on first use."""
        if self._experiment is None:
            name = self._study.spec.tracking.experiment or self._study.name
            found = self.client.get_experiment_by_name(name)
            self._experiment = found.experiment_id if found else self._create_experiment(name)
        return self._experiment

    def _create_experiment(self, name: str) -> str:
        # MLflow takes any name; as a folder only one that cannot lead out of the home folder will do.
        folder = name if NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:16]
        location = (self._home.artifacts / folder).as_uri() if self.uri == self._home.mlflow_url else None
        return str(self.client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))

    @property
    def tags(self) -> dict[str, str]:
        """What every run of the study is found by."""
        return {STUDY_TAG: self._study.name, IDENTITY_TAG: str(self._study.info.get("identity", ""))}

    @property
    def runs(self) -> Runs:
        """What there is, looked up once and kept up to date by those who make and delete."""
        if self._runs is None:
            found = Runs()
            query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in self.tags.items())
            token: str | None = None
            while True:
                page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=token)
                for run in page:
                    _file(found, run)
                token = page.token
                if not token:
                    break
            self._runs = found
        return self._runs

    @property
    def parent(self) -> str:
        """The id of the study's own run; found or made."""
        if not self.runs.parents:
            self.runs.parents.append(self._create_parent())
        return str(self.runs.parents[-1].info.run_id)

    def _create_parent(self) -> Run:
        info = self._study.info
        provenance = {f"version.{name}": version for name, version in info.get("versions", {}).items()}
        provenance |= {"mlflow.source.git.commit": str(info.get("git_commit")), "host": str(info.get("host"))}
        if (confirmed := confirmed_study(self._study.name)) is not None:
            provenance |= self._parent_of(confirmed)
        if split := info.get("data", {}).get("split_hash"):
            provenance["split_hash"] = split
        return self.client.create_run(
            self.experiment,
            start_time=ms(info.get("created")),
            tags=self.tags | provenance,
            run_name=self._study.name,
        )

    def _parent_of(self, study: str) -> dict[str, str]:
        """The tag that shows a confirmation below its study, where MLflow has that."""
        tags = self.tags | {STUDY_TAG: study}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_runs([self.experiment], query, order_by=["attributes.start_time"], max_results=1)
        if not found or TRIAL_TAG in found[0].data.tags:
            return {}
        return {PARENT_TAG: str(found[0].info.run_id)}

    def create_child(self, name: str, tags: Mapping[str, str], started: float | None) -> Run:
        """A new run below the study's own; the caller files it under `runs`."""
        return self.client.create_run(
            self.experiment,
            start_time=ms(started),
            tags=self.tags | dict(tags) | {PARENT_TAG: self.parent},
            run_name=name,
        )

    def delete(self, run: Run) -> None:
        """Delete a run, which MLflow can undo."""
        self.client.delete_run(run.info.run_id)

    def metric_differences(self, run: Run, wanted: Mapping[str, Mapping[int, float]]) -> tuple[int, int]:
        """Points (by metric and step) that MLflow lacks, and points of its that are not wanted or there twice."""
        missing = wrong = 0
        for key in wanted.keys() | run.data.metrics.keys():
            if key.startswith(("system/", "confirmed_")):
                continue  # samples of the machine are nowhere else; a confirmation is logged anew as it grows
            points = dict(wanted.get(key, {}))
            for point in self.client.get_metric_history(run.info.run_id, key) if key in run.data.metrics else ():
                wrong += point.step not in points or not same(points.pop(point.step), point.value)
            missing += len(points)
        return missing, wrong


def _file(runs: Runs, run: Run) -> None:
    tags = run.data.tags
    if TRIAL_TAG in tags:
        runs.trials.setdefault(int(tags[TRIAL_TAG]), []).append(run)
    elif RETRAINING_TAG in tags:
        runs.retrainings.setdefault(int(tags[RETRAINING_TAG]), []).append(run)
    else:
        runs.parents.append(run)


def numbers(metrics: Any) -> dict[str, float]:
    """An epoch's metrics by name; their step is the epoch."""
    values: Mapping[str, Any] = {key: getattr(metrics, key) for key in metrics.__dataclass_fields__}
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and k != "epoch"}


def same(a: float, b: float) -> bool:
    """Whether `b` is what MLflow makes of `a`."""
    if math.isinf(a):
        return b == math.copysign(LARGEST, a)
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-300)


def ms(seconds: float | None) -> int | None:
    """MLflow's timestamps."""
    return None if seconds is None else int(seconds * 1000)
