"""MLflow as a view of the ledger, kept up to date by a thread of the driver.

There is no queue and no spool to lose: whatever MLflow lacks is computed from the study's records, so after an
outage, a crash or a resume the same `sync` brings it up to date, and repeating it changes nothing. Training never
waits: the driver leaves its newest record of a trial here and goes on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home
from hpo.outcome import MLFLOW_STATUS, Ending
from hpo.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.summary import description

STUDY_TAG, IDENTITY_TAG, TRIAL_TAG, OUTCOME_TAG, REASON_TAG = (
    "hpo.study",
    "hpo.identity",
    "hpo.trial",
    "hpo.outcome",
    "hpo.reason",
)
CONNECT_TIMEOUT_S = 8
SYNC_INTERVAL_S = 1.0
CLOSE_TIMEOUT_S = 60.0


def tracking_uri(study: StudyRecord, home: Home) -> str:
    """Where a study is tracked: its specification's URI, else MLFLOW_TRACKING_URI, else the home folder."""
    return study.spec.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or home.mlflow_url


def check_server(uri: str) -> None:
    """Fail within seconds where an MLflow server cannot be reached.

    Raises:
        InfrastructureError: with the ways out.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=CONNECT_TIMEOUT_S):
            return
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in shows at the first call
    except OSError as error:
        raise InfrastructureError(
            f"the MLflow server {redact(uri)} does not answer: {error}. Start it, name another by tracking.uri=URI, "
            f"track into the home folder by leaving tracking.uri and MLFLOW_TRACKING_URI unset, "
            f"or go without by tracking.enabled=false"
        ) from error


class Mirror:
    """Brings MLflow's runs of one study in line with its records. Synchronous; `Tracker` runs it in a thread."""

    def __init__(self, study: StudyRecord, home: Home) -> None:
        # A dead server must cost seconds, not MLflow's default of minutes per call.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self._study = study
        self._home = home
        self._client = MlflowClient(tracking_uri=tracking_uri(study, home))
        self._experiment: str | None = None
        self._parent: str | None = None
        self.runs: dict[int, str] = {}
        self._synced: dict[int, TrialRecord] = {}

    @property
    def experiment(self) -> str:
        """The experiment's id; made on first use."""
        if self._experiment is None:
            name = self._study.spec.tracking.experiment or self._study.name
            found = self._client.get_experiment_by_name(name)
            self._experiment = found.experiment_id if found else self._create_experiment(name)
        return self._experiment

    def _create_experiment(self, name: str) -> str:
        local = tracking_uri(self._study, self._home) == self._home.mlflow_url
        location = (self._home.artifacts / name).as_uri() if local else None
        return str(self._client.create_experiment(name, artifact_location=location))

    @property
    def parent(self) -> str:
        """The parent run's id; found by its tags or made."""
        if self._parent is None:
            tags = {STUDY_TAG: self._study.name, IDENTITY_TAG: self._identity}
            self._parent = self._find(tags, child=False) or self._create_parent(tags)
        return self._parent

    @property
    def _identity(self) -> str:
        return str(self._study.info.get("identity", ""))

    def _find(self, tags: Mapping[str, str], *, child: bool) -> str | None:
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        for run in self._client.search_runs([self.experiment], query, max_results=10):
            if (TRIAL_TAG in run.data.tags) == child:
                return str(run.info.run_id)
        return None

    def _create_parent(self, tags: Mapping[str, str]) -> str:
        info = self._study.info
        provenance = {f"version.{name}": version for name, version in info.get("versions", {}).items()}
        provenance |= {"mlflow.source.git.commit": str(info.get("git_commit")), "host": str(info.get("host"))}
        if split := info.get("data", {}).get("split_hash"):
            provenance["split_hash"] = split
        run = self._client.create_run(
            self.experiment,
            start_time=_ms(info.get("created")),
            tags=dict(tags) | provenance,
            run_name=self._study.name,
        )
        run_id = str(run.info.run_id)
        self._client.log_text(run_id, redact(self._study.spec.to_yaml()), "specification.yaml")
        self._client.log_dict(run_id, dict(info.get("data", {})), "data.json")
        return run_id

    def sync(self, trial: TrialRecord) -> None:
        """Bring one trial's run up to date with its record."""
        from mlflow.entities import Metric, Param, RunTag

        if not trial.started or self._synced.get(trial.number) == trial:
            return
        run_id = self._run(trial)
        known = self._synced.get(trial.number)
        done = len(known.epochs) if known else self._epochs_logged(run_id)
        metrics = [
            Metric(key, float(value), int(epoch.recorded * 1000), epoch.metrics.epoch)
            for epoch in trial.epochs[done:]
            for key, value in _numbers(epoch.metrics).items()
        ]
        parameters = [Param(key, str(value)) for key, value in trial.values.items()] if not known else []
        if not known and trial.seed is not None:
            parameters.append(Param("seed", str(trial.seed)))
        tags = [RunTag(OUTCOME_TAG, trial.status), RunTag("hpo.attempts", str(len(trial.attempts)))]
        if trial.outcome:
            tags.append(RunTag(REASON_TAG, trial.outcome.reason[:5000]))
        for start in range(0, max(len(metrics), 1), 900):  # MLflow takes at most 1,000 per call
            self._client.log_batch(run_id, metrics[start : start + 900], parameters, tags)
            parameters, tags = [], []
        self._set_status(run_id, trial)
        self._synced[trial.number] = trial

    def _set_status(self, run_id: str, trial: TrialRecord) -> None:
        if trial.outcome is None:
            self._client.update_run(run_id, status="RUNNING")
        elif trial.outcome.final:
            self._client.set_terminated(run_id, MLFLOW_STATUS[trial.outcome.ending], _ms(trial.finished))
        else:
            self._client.update_run(run_id, status=MLFLOW_STATUS[Ending.INTERRUPTED])

    def _run(self, trial: TrialRecord) -> str:
        if trial.number not in self.runs:
            tags = {STUDY_TAG: self._study.name, IDENTITY_TAG: self._identity, TRIAL_TAG: str(trial.number)}
            self.runs[trial.number] = trial.mlflow_run_id or self._find(tags, child=True) or self._create(trial, tags)
        return self.runs[trial.number]

    def _create(self, trial: TrialRecord, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(
            self.experiment,
            start_time=_ms(trial.attempts[0].started),
            tags=dict(tags) | {"mlflow.parentRunId": self.parent},
            run_name=f"trial-{trial.number:05d}",
        )
        return str(run.info.run_id)

    def _epochs_logged(self, run_id: str) -> int:
        history = self._client.get_metric_history(run_id, "val_accuracy")
        return max((metric.step for metric in history), default=0)

    def finish(self, study: StudyRecord) -> None:
        """Bring the parent run up to date: description, best so far, status."""
        self._client.set_tag(self.parent, "mlflow.note.content", description(study))
        if study.best is not None and study.best.value is not None:
            self._client.log_metric(
                self.parent,
                "best_val_accuracy",
                study.best.value,
                _ms(study.best.finished),
                study.best.number,
            )
            self._client.set_tag(self.parent, "hpo.best_trial", str(study.best.number))
        waiting = study.count("interrupted") + study.count("running")
        if waiting:
            self._client.update_run(self.parent, status="SCHEDULED")
        else:
            self._client.set_terminated(self.parent, "FINISHED" if study.best else "FAILED")

    def begin(self) -> None:
        """Show the study as running."""
        self._client.update_run(self.parent, status="RUNNING")
        self._client.set_tag(self.parent, "mlflow.note.content", description(self._study))


class Tracker:
    """The thread that keeps a `Mirror` in line while the study runs."""

    def __init__(self, study: StudyRecord, home: Home) -> None:
        self._study, self._home = study, home
        self._lock = threading.Lock()
        self._dirty: dict[int, TrialRecord] = {trial.number: trial for trial in study.trials if trial.started}
        self._links: dict[int, str] = {}
        self._known = {trial.number for trial in study.trials if trial.mlflow_run_id}
        self._closing = threading.Event()
        self._final: StudyRecord | None = None
        self._done = False
        self.trouble: Exception | None = None
        """What the newest call failed with, None while MLflow answers."""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    @classmethod
    def start(cls, study: StudyRecord, home: Home) -> Tracker:
        """Check the server and begin.

        Raises:
            InfrastructureError: an MLflow server is named but does not answer.
        """
        check_server(tracking_uri(study, home))
        tracker = cls(study, home)
        tracker._thread.start()
        return tracker

    def update(self, trial: TrialRecord) -> None:
        """Leave a trial's newest record; returns at once."""
        with self._lock:
            self._dirty[trial.number] = trial

    def linked(self) -> list[tuple[int, str]]:
        """The (trial, run id) pairs made since the last call, for the ledger."""
        with self._lock:
            new = [(number, run) for number, run in self._links.items() if number not in self._known]
            self._known.update(number for number, _ in new)
            return new

    def close(self, study: StudyRecord) -> str | None:
        """Write what is left and end; return what a person must know if MLflow did not take everything."""
        self._final = study
        self._closing.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._done:
            return None
        reason = f": {redact(str(self.trouble))}" if self.trouble else ""
        return (
            f"MLflow has not got everything yet{reason}. Nothing is lost: the ledger has it; "
            f"`hpo doctor {study.name}` writes the rest"
        )

    def _work(self) -> None:
        mirror: Mirror | None = None
        attempts_left = 2
        while True:
            closing = self._closing.wait(SYNC_INTERVAL_S)
            try:
                if mirror is None:
                    mirror = Mirror(self._study, self._home)
                    mirror.begin()
                self._drain(mirror)
                if closing and self._final is not None:
                    mirror.finish(self._final)
                    self._done = True
                    return
                self.trouble = None
            except Exception as error:  # noqa: BLE001 - an outage of any kind is retried, shown, and never ends training
                self.trouble = error
                if closing:
                    attempts_left -= 1
                    if not attempts_left:
                        return
                time.sleep(SYNC_INTERVAL_S)

    def _drain(self, mirror: Mirror) -> None:
        while True:
            with self._lock:
                if not self._dirty:
                    return
                number = min(self._dirty)
                trial = self._dirty[number]
            mirror.sync(trial)
            with self._lock:
                self._links[number] = mirror.runs.get(number, "")
                if self._dirty.get(number) is trial:
                    del self._dirty[number]


def synchronise(study: StudyRecord, home: Home) -> dict[int, str]:
    """Bring MLflow in line with the ledger in one go; returns the run of every trial.

    Raises:
        InfrastructureError: the server does not answer.
    """
    check_server(tracking_uri(study, home))
    mirror = Mirror(study, home)
    for trial in study.trials:
        mirror.sync(trial)
    mirror.finish(study)
    return mirror.runs


def _numbers(metrics: Any) -> dict[str, float]:
    values = {key: getattr(metrics, key) for key in metrics.__dataclass_fields__}
    return {k: v for k, v in values.items() if isinstance(v, int | float) and k != "epoch"}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def study_page(home: Home, name: str | None) -> str:
    """The path of a study's page in MLflow's UI, e.g. `/#/experiments/1/runs/abc`; `/` where there is none."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiments = [one.experiment_id for one in client.search_experiments()]
    query = f"tags.`{STUDY_TAG}` = '{name}'" if name else f"tags.`{STUDY_TAG}` LIKE '%'"
    runs = client.search_runs(experiments, query, order_by=["attributes.start_time DESC"], max_results=1000)
    parents = [run for run in runs if TRIAL_TAG not in run.data.tags]
    if not parents:
        if name:
            raise UsageError(f"MLflow in {home.path} has no study {name!r}; `hpo doctor {name}` writes it there")
        return "/"
    return f"/#/experiments/{parents[0].info.experiment_id}/runs/{parents[0].info.run_id}"
