"""MLflow's runs of one study, computed from its records: written, compared and repaired. Synchronous.

One parent run per study and one child run per trial, found again by their tags, so that nothing is made twice.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hpo.confirmation import evaluate
from hpo.home import Home, confirmed_study
from hpo.outcome import MLFLOW_STATUS
from hpo.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.summary import description

if TYPE_CHECKING:
    from mlflow.entities import Run

STUDY_TAG, IDENTITY_TAG, TRIAL_TAG, OUTCOME_TAG, REASON_TAG, EPOCHS_TAG = (
    "hpo.study",
    "hpo.identity",
    "hpo.trial",
    "hpo.outcome",
    "hpo.reason",
    "hpo.epochs",
)
EPOCHS_PER_CALL = 40
"""MLflow takes at most 1,000 metrics per call; an epoch has fewer than 25 and is never split, so that a call
that was cut off leaves whole epochs."""
LARGEST = 1.7976931348623157e308
"""What MLflow stores for infinity."""


def tracking_uri(study: StudyRecord, home: Home) -> str:
    """Where a study is tracked: its specification's URI, else MLFLOW_TRACKING_URI, else the home folder."""
    return study.spec.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or home.mlflow_url


class Mirror:
    """Brings MLflow's runs of one study in line with its records; repeating anything changes nothing."""

    def __init__(self, study: StudyRecord, home: Home) -> None:
        # A dead server must cost seconds, not MLflow's default of minutes per call.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # with the password, if it has one
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self._study = study
        self._home = home
        self._uri = tracking_uri(study, home)
        self._client = MlflowClient(tracking_uri=self._uri)
        self._experiment: str | None = None
        self._parent: Run | None = None
        self._found: dict[int, list[Run]] | None = None
        self._synced: dict[int, TrialRecord] = {}
        self.runs: dict[int, str] = {}
        """Run ids by trial, as far as they have been needed."""

    # ------------------------------------------------------------------------------------ what there is

    @property
    def experiment(self) -> str:
        """The experiment's id; made on first use."""
        if self._experiment is None:
            name = self._study.spec.tracking.experiment or self._study.name
            found = self._client.get_experiment_by_name(name)
            self._experiment = found.experiment_id if found else self._create_experiment(name)
        return self._experiment

    def _create_experiment(self, name: str) -> str:
        location = (self._home.artifacts / name).as_uri() if self._uri == self._home.mlflow_url else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _tags(self) -> dict[str, str]:
        return {STUDY_TAG: self._study.name, IDENTITY_TAG: str(self._study.info.get("identity", ""))}

    def _look(self) -> dict[int, list[Run]]:
        """All runs of the study that are not deleted, by trial; the parent run is -1."""
        if self._found is None:
            found: dict[int, list[Run]] = {}
            query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in self._tags().items())
            token: str | None = None
            while True:
                page = self._client.search_runs([self.experiment], query, max_results=1000, page_token=token)
                for run in page:
                    found.setdefault(int(run.data.tags.get(TRIAL_TAG, -1)), []).append(run)
                token = page.token
                if not token:
                    break
            self._found = found
        return self._found

    @property
    def parent(self) -> str:
        """The parent run's id; found or made."""
        if self._parent is None:
            there = self._look().get(-1)
            self._parent = there[-1] if there else self._create_parent()  # newest first
        return str(self._parent.info.run_id)

    def _create_parent(self) -> Run:
        info = self._study.info
        provenance = {f"version.{name}": version for name, version in info.get("versions", {}).items()}
        provenance |= {"mlflow.source.git.commit": str(info.get("git_commit")), "host": str(info.get("host"))}
        if (confirmed := confirmed_study(self._study.name)) is not None:
            provenance |= self._parent_of(confirmed)
        if split := info.get("data", {}).get("split_hash"):
            provenance["split_hash"] = split
        run = self._client.create_run(
            self.experiment,
            start_time=_ms(info.get("created")),
            tags=self._tags() | provenance,
            run_name=self._study.name,
        )
        self._client.log_text(run.info.run_id, redact(self._study.spec.to_yaml()), "specification.yaml")
        self._client.log_dict(run.info.run_id, dict(info.get("data", {})), "data.json")
        return run

    def _parent_of(self, study: str) -> dict[str, str]:
        """The tag that shows a confirmation below its study, where MLflow has that."""
        tags = self._tags() | {STUDY_TAG: study}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self._client.search_runs([self.experiment], query, order_by=["attributes.start_time"], max_results=1)
        if not found or TRIAL_TAG in found[0].data.tags:
            return {}
        return {"mlflow.parentRunId": str(found[0].info.run_id)}

    def _run(self, trial: TrialRecord) -> Run | None:
        """The trial's run if there is one: the ledger's, else the oldest with its tags."""
        there = self._look().get(trial.number, [])
        return next((run for run in there if run.info.run_id == trial.mlflow_run_id), there[-1] if there else None)

    def _create(self, trial: TrialRecord) -> Run:
        return self._client.create_run(
            self.experiment,
            start_time=_ms(trial.attempts[0].started),
            tags=self._tags() | {TRIAL_TAG: str(trial.number), "mlflow.parentRunId": self.parent},
            run_name=_run_name(trial),
        )

    # --------------------------------------------------------------------------------------- writing

    def begin(self) -> None:
        """Show the study as running."""
        self._client.update_run(self.parent, status="RUNNING")
        self._client.set_tag(self.parent, "mlflow.note.content", description(self._study))

    def sync(self, trial: TrialRecord) -> None:
        """Bring one trial's run up to date with its record."""
        known = self._synced.get(trial.number)
        if not trial.started or known == trial:
            return
        if known is None:
            run = self._run(trial)
            if run is None:
                run = self._create(trial)
                self._look().setdefault(trial.number, []).append(run)
            self.runs[trial.number] = str(run.info.run_id)
            if not _up_to_date(run, trial):
                self._send(trial, self._epochs_there(run))
                self._set_status(trial)
        else:
            self._send(trial, len(known.epochs))
            if known.status != trial.status:
                self._set_status(trial)
        self._synced[trial.number] = trial

    def _epochs_there(self, run: Run) -> int:
        if "val_accuracy" not in run.data.metrics:
            return 0
        return max(point.step for point in self._client.get_metric_history(run.info.run_id, "val_accuracy"))

    def _send(self, trial: TrialRecord, done: int) -> None:
        """Metrics of the epochs after `done`; parameters and tags, which may be sent again."""
        from mlflow.entities import Metric, Param, RunTag

        run_id = self.runs[trial.number]
        tags = {
            OUTCOME_TAG: trial.status,
            EPOCHS_TAG: str(len(trial.epochs)),
            "hpo.attempts": str(len(trial.attempts)),
        }
        if trial.origin:
            tags["hpo.origin"] = str(trial.origin)
        if trial.outcome:
            tags[REASON_TAG] = trial.outcome.reason[:5000]
        parameters = [Param(key, text) for key, text in _parameters(trial).items()]
        for start in range(done, max(len(trial.epochs), done + 1), EPOCHS_PER_CALL):
            metrics = [
                Metric(key, value, int(epoch.recorded * 1000), epoch.metrics.epoch)
                for epoch in trial.epochs[start : start + EPOCHS_PER_CALL]
                for key, value in _numbers(epoch.metrics).items()
            ]
            last = start + EPOCHS_PER_CALL >= len(trial.epochs)
            self._client.log_batch(
                run_id,
                metrics,
                parameters if trial.number not in self._synced and start == done else [],
                [RunTag(key, value) for key, value in tags.items()] if last else [],
            )

    def _set_status(self, trial: TrialRecord) -> None:
        run_id, status = self.runs[trial.number], _status(trial)
        if trial.outcome is not None and trial.outcome.final:
            self._client.set_terminated(run_id, status, _ms(trial.finished))
        else:
            self._client.update_run(run_id, status=status)

    def finish(self, study: StudyRecord) -> None:
        """Bring the parent run up to date: description, best so far, status."""
        self._client.set_tag(self.parent, "mlflow.note.content", description(study))
        self._client.set_tag(self.parent, "hpo.ended", study.ended or "")
        if confirmed_study(study.name) is not None:
            self._log_confirmation(study)
        elif study.best is not None and study.best.value is not None:
            self._client.log_metric(
                self.parent,
                "best_val_accuracy",
                study.best.value,
                _ms(study.best.finished),
                study.best.number,
            )
            self._client.set_tag(self.parent, "hpo.best_trial", str(study.best.number))
        status = _study_status(study)
        if status == "SCHEDULED":
            self._client.update_run(self.parent, status=status)
        else:
            self._client.set_terminated(self.parent, status)

    def _log_confirmation(self, study: StudyRecord) -> None:
        """The choice's mean and gain with their intervals; the best single repeat means nothing."""
        found = evaluate(study.spec, study.trials)
        if found.chosen is None:
            return
        for name, interval in (("val_accuracy", found.chosen.interval), ("gain", found.gain)):
            for part, value in dataclasses.asdict(interval).items() if interval else ():
                self._client.log_metric(self.parent, f"confirmed_{name}_{part}", value, step=found.planned)
        self._client.set_tag(self.parent, "hpo.best_trial", str(found.chosen.trial))

    # ------------------------------------------------------------------------------- compare and repair

    def differences(self, study: StudyRecord) -> list[str]:
        """What MLflow has otherwise than the ledger, one line each; [] if they agree in every run, status,
        parameter and metric of every epoch."""
        there = self._look()
        found = [] if there.get(-1) else ["the study has no run of its own"]
        if there.get(-1) and there[-1][-1].info.status != _study_status(study):
            found.append(f"the study's run is {there[-1][-1].info.status}, not {_study_status(study)}")
        numbers = {trial.number for trial in study.trials if trial.started}
        strangers = sorted(there.keys() - numbers - {-1})
        found += [f"trial {number} has a run but is not in the ledger" for number in strangers]
        for trial in study.trials:
            if trial.started:
                found += [f"trial {trial.number} {line}" for line in self._differences(trial)]
        return found

    def _differences(self, trial: TrialRecord) -> Iterator[str]:
        run = self._run(trial)
        if run is None:
            yield "has no run"
            return
        if len(self._look()[trial.number]) > 1:
            yield f"has {len(self._look()[trial.number])} runs"
        if trial.mlflow_run_id != run.info.run_id:
            yield "has a run that the ledger does not know"
        if run.info.status != _status(trial):
            yield f"is {run.info.status}, not {_status(trial)}"
        for key, text in _parameters(trial).items():
            if run.data.params.get(key) != text:
                yield f"has {key} = {run.data.params.get(key)}, not {text}"
        missing, wrong = self._metric_differences(trial, run)
        if missing:
            yield f"lacks {missing} metric values"
        if wrong:
            yield f"has {wrong} metric values that the ledger has not"

    def _metric_differences(self, trial: TrialRecord, run: Run) -> tuple[int, int]:
        """Points that MLflow lacks, and points of its that are not the ledger's or there twice."""
        wanted: dict[str, dict[int, float]] = {}
        for epoch in trial.epochs:
            for key, value in _numbers(epoch.metrics).items():
                wanted.setdefault(key, {})[epoch.metrics.epoch] = value
        missing = wrong = 0
        for key in wanted.keys() | run.data.metrics.keys():
            points = wanted.get(key, {}).copy()
            for point in self._client.get_metric_history(run.info.run_id, key) if key in run.data.metrics else ():
                wrong += point.step not in points or not _same(points.pop(point.step), point.value)
            missing += len(points)
        return missing, wrong

    def repair(self, study: StudyRecord) -> None:
        """Bring MLflow in line with the ledger. MLflow cannot take a value back, so a run with wrong ones, like a
        run too many, is deleted (which MLflow can undo) and a new one is written."""
        there = self._look()
        started = {trial.number: trial for trial in study.trials if trial.started}
        for number in [number for number in there if number >= 0]:
            kept = self._run(started[number]) if number in started else None
            if kept is not None and self._is_wrong(started[number], kept):
                kept = None
            for run in there[number]:
                if run is not kept:
                    self._client.delete_run(run.info.run_id)
            there[number] = [kept] if kept is not None else []
        for trial in started.values():
            there_is = self._run(trial)
            if there_is is not None and self._metric_differences(trial, there_is)[0]:
                self.runs[trial.number] = str(there_is.info.run_id)
                self._send(trial, 0)  # points that are there already are the same, and MLflow drops them
            self.sync(trial)
        self.finish(study)

    def _is_wrong(self, trial: TrialRecord, run: Run) -> bool:
        parameters = _parameters(trial)
        return self._metric_differences(trial, run)[1] > 0 or any(
            run.data.params.get(key, text) != text for key, text in parameters.items()
        )


def _up_to_date(run: Run, trial: TrialRecord) -> bool:
    """Whether the last call that wrote the trial's newest state was made, as far as the run itself tells."""
    return (
        run.data.tags.get(EPOCHS_TAG) == str(len(trial.epochs))
        and run.data.tags.get(OUTCOME_TAG) == trial.status
        and run.info.status == _status(trial)
    )


def _run_name(trial: TrialRecord) -> str:
    """Sorts by trial, in a confirmation by configuration and then seed."""
    repeat = trial.repeat
    return f"trial-{repeat.trial:05d}-seed-{repeat.index:02d}" if repeat else f"trial-{trial.number:05d}"


def _status(trial: TrialRecord) -> str:
    return MLFLOW_STATUS[trial.outcome.ending] if trial.outcome else "RUNNING"


def _study_status(study: StudyRecord) -> str:
    left = study.count("interrupted")
    if study.count("running") or (left and study.ended is None):
        return "SCHEDULED"
    return "FINISHED" if study.best or left else "FAILED"


def _parameters(trial: TrialRecord) -> dict[str, str]:
    seed = {} if trial.seed is None else {"seed": str(trial.seed)}
    return {key: str(value) for key, value in trial.values.items()} | seed


def _numbers(metrics: Any) -> dict[str, float]:
    values: Mapping[str, Any] = {key: getattr(metrics, key) for key in metrics.__dataclass_fields__}
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and k != "epoch"}


def _same(a: float, b: float) -> bool:
    if math.isinf(a):
        return b == math.copysign(LARGEST, a)
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-300)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
