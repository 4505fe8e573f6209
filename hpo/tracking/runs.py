"""Where a study is tracked, and which runs it has there. Tags identify the runs, so that none is created twice."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sqlite3
import tempfile
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.home import NAME, Home, confirmed_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.spec.study import Spec
from hpo.sqlite_urls import sqlite_url
from hpo.text import shorten
from hpo.tracking.places import RunFiles, follow
from hpo.tracking.upkeep.naming import (
    RETRAINING_TAG,
    STUDY_TAG,
    TRIAL_TAG,
    experiment_of,
    find_experiment,
    identifying_tags,
    query,
)
from hpo.tracking.upkeep.naming import follow as follow_name

if TYPE_CHECKING:
    from mlflow.entities import Run

OUTCOME_TAG = "hpo.outcome"
PARENT_TAG = "mlflow.parentRunId"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the UI show training runs with their descriptions and charts, not the traces of a language model."""
PRIMARY_TAG = "mlflow.experiment.primaryMetric.name"
"""Tag of an experiment: the metric at the end of the lines when its runs are shown in parallel coordinates."""
LONGEST_TAG, LONGEST_PARAMETER, LONGEST_KEY = 5_000, 6_000, 250
"""The most characters that MLflow servers take; newer ones take 8,000 in a tag."""
LARGEST = 1.7976931348623157e308
"""The value that MLflow stores for infinity."""


def tracking_server(spec: Spec | None = None) -> str | None:
    """The URI that the specification sets, else `MLFLOW_TRACKING_URI`; None: MLflow in the home folder.

    A blank text sets nothing.
    """
    texts = (spec.tracking.uri if spec else None, os.environ.get("MLFLOW_TRACKING_URI"))
    return next((text.strip() for text in texts if text and text.strip()), None)


def tracking_uri(home: Home, spec: Spec | None = None) -> str:
    """The URI of the MLflow that a study is tracked in; without `spec`, that of a study which sets none itself."""
    return tracking_server(spec) or home.mlflow_url


def make_store(home: Home) -> None:
    """Create the home folder's MLflow database, completely or not at all.

    MLflow itself takes hundreds of steps. A process killed in between leaves a database that MLflow refuses to open.
    """
    database = home.path / "mlflow.db"
    if database.exists():
        return
    from mlflow import MlflowClient

    home.cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mlflow-", dir=home.cache) as folder:
        first, second = Path(folder, "first.db"), Path(folder, "second.db")
        MlflowClient(tracking_uri=sqlite_url(first)).search_experiments(max_results=1)
        with closing(sqlite3.connect(first)) as original, closing(sqlite3.connect(second)) as copy:
            original.backup(copy)
        with suppress(FileExistsError):  # another driver was faster
            os.link(second, database)


@dataclass
class Runs:
    """The runs of one study that are not deleted, each list from the newest to the oldest."""

    parents: list[Run] = field(default_factory=list)
    trials: dict[int, list[Run]] = field(default_factory=dict)
    retrainings: dict[int, list[Run]] = field(default_factory=dict)
    """By position in the study's list of retrainings."""


class Store:
    """Finds, creates and deletes the MLflow runs of one study."""

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
            follow(home)
        self.client = MlflowClient(tracking_uri=self.uri)
        self.followed = follow_name(self.client, study)
        """Number of runs that had a former name of the study."""
        self.files = RunFiles()
        self._study = study
        self._home = home
        self._experiment: str | None = None
        self._runs: Runs | None = None

    @property
    def experiment(self) -> str:
        """The experiment's id. Creates the experiment on first use."""
        if self._experiment is None:
            name = experiment_of(self._study)
            experiment = find_experiment(self.client, name)
            self._experiment = experiment.experiment_id if experiment else self._create_experiment(name)
        return self._experiment

    def _create_experiment(self, name: str) -> str:
        # MLflow takes any name. A folder's name must not lead out of the home folder.
        folder = name if NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:16]
        location = (self._home.artifacts / folder).as_uri() if self.uri == self._home.mlflow_url else None
        tags = EXPERIMENT_TAGS | {PRIMARY_TAG: self._study.spec.objective.field}
        return str(self.client.create_experiment(name, artifact_location=location, tags=tags))

    @property
    def tags(self) -> dict[str, str]:
        """The tags that identify every run of the study."""
        return identifying_tags(self._study)

    @property
    def runs(self) -> Runs:
        """The study's runs. Searched for once; callers that create or delete runs keep it up to date."""
        if self._runs is None:
            self._runs = self._search()
        return self._runs

    def _search(self) -> Runs:
        runs = Runs()
        token: str | None = None
        while True:
            page = self.client.search_runs([self.experiment], query(self.tags), max_results=1000, page_token=token)
            for run in page:
                _file(runs, run)
            token = page.token
            if not token:
                return runs

    @property
    def parent(self) -> str:
        """The id of the study run. Creates the run if there is none."""
        if not self.runs.parents:
            self.runs.parents.append(self._create_parent())
        return str(self.runs.parents[-1].info.run_id)

    def _create_parent(self) -> Run:
        info = self._study.info
        provenance = {"mlflow.source.git.commit": str(info.get("git_commit")), "host": str(info.get("host"))}
        if (confirmed := confirmed_study(self._study.name)) is not None:
            provenance |= self._parent_of(confirmed)
        if split := info.get("data", {}).get("split_hash"):
            provenance["split_hash"] = split
        return self.client.create_run(
            self.experiment,
            start_time=ms(info.get("created")),
            tags={key: storable(text) for key, text in (self.tags | provenance).items()},
            run_name=self._study.name,
        )

    def _parent_of(self, study: str) -> dict[str, str]:
        """The tag that puts a confirmation below the run of the confirmed `study`; {} if that has no run."""
        confirmed = query(self.tags | {STUDY_TAG: study})
        runs = self.client.search_runs([self.experiment], confirmed, order_by=["attributes.start_time"], max_results=1)
        if not runs or TRIAL_TAG in runs[0].data.tags:
            return {}
        return {PARENT_TAG: str(runs[0].info.run_id)}

    def run_of(self, trial: TrialRecord) -> Run | None:
        """The trial's run if it has one: the run that the ledger names, else the oldest run with its tags."""
        runs = self.runs.trials.get(trial.number, [])
        return next((run for run in runs if run.info.run_id == trial.mlflow_run_id), runs[-1] if runs else None)

    def create_child(self, name: str, tags: Mapping[str, str], started: float | None) -> Run:
        """Create a run below the study run, started at `started` (seconds since 1970). The caller adds it to `runs`."""
        return self.client.create_run(
            self.experiment,
            start_time=ms(started),
            tags=self.tags | dict(tags) | {PARENT_TAG: self.parent},
            run_name=name,
        )

    @property
    def file_trouble(self) -> str | None:
        """What a person must know if files of the study cannot be read or written."""
        parents = self.runs.parents
        return self.files.trouble(parents[-1], self._study.name, self._home) if parents else None

    def delete(self, run: Run) -> None:
        """Delete a run; MLflow can restore it."""
        self.client.delete_run(run.info.run_id)

    def metric_differences(
        self, run: Run, expected: Mapping[str, Mapping[int, float]], beside: Collection[str] = ()
    ) -> tuple[int, int]:
        """Compare a run with the `expected` values by metric and step.

        Args:
            beside: metrics that are not compared.

        Returns the number of values that the run lacks, and the number of values that are wrong, surplus or duplicate.
        """
        missing = wrong = 0
        for key in (expected.keys() | run.data.metrics.keys()) - set(beside):
            if key.startswith(("system/", "confirmed_")):
                continue  # only MLflow has samples of the load; a confirmation's values are written again as it grows
            points = dict(expected.get(key, {}))
            for point in self.client.get_metric_history(run.info.run_id, key) if key in run.data.metrics else ():
                wrong += point.step not in points or not same(points.pop(point.step), point.value)
            missing += len(points)
        return missing, wrong


def _file(runs: Runs, run: Run) -> None:
    """Add a run to its list."""
    tags = run.data.tags
    if TRIAL_TAG in tags:
        runs.trials.setdefault(int(tags[TRIAL_TAG]), []).append(run)
    elif RETRAINING_TAG in tags:
        runs.retrainings.setdefault(int(tags[RETRAINING_TAG]), []).append(run)
    else:
        runs.parents.append(run)


def storable(text: str, longest: int = LONGEST_TAG) -> str:
    """`text` as MLflow stores it: cut, and without what its databases and JSON cannot hold."""
    return shorten(text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}"), longest)


def parameters(values: Mapping[str, object]) -> dict[str, str]:
    """The searched parameters, and other settings that a person gave a trial.

    The seed is a tag: in MLflow's plots of parameters it would only distract."""
    return {_key(key): storable(str(value), LONGEST_PARAMETER) for key, value in values.items()}


def _key(name: str) -> str:
    """`name`, or the beginning and a digest of one that is too long for MLflow."""
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]
    return name if len(name) <= LONGEST_KEY else f"{name[: LONGEST_KEY - 17]}-{digest}"


def run_name(trial: TrialRecord) -> str:
    """A name that sorts by trial, and in a confirmation by configuration and then by seed."""
    repeat = trial.repeat
    return f"trial-{repeat.trial:05d}-seed-{repeat.index:02d}" if repeat else f"trial-{trial.number:05d}"


def numbers(metrics: Any) -> dict[str, float]:
    """An epoch's metrics by name, without the epoch itself."""
    values = {key: getattr(metrics, key) for key in metrics.__dataclass_fields__} | dict(metrics.own or {})
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and k != "epoch"}


def same(a: float, b: float) -> bool:
    """Whether `b` is `a` as MLflow stores it."""
    if math.isinf(a):
        return b == math.copysign(LARGEST, a)
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-300)


def ms(seconds: float | None) -> int | None:
    """Seconds as MLflow's timestamp in milliseconds."""
    return None if seconds is None else int(seconds * 1000)


def ms_after(end: float | None, start: float | None) -> int | None:
    """The same of an end, which is never before its start; records of earlier versions may say so."""
    return ms(end if end is None or start is None else max(start, end))
