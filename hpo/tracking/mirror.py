"""The MLflow runs of one study, computed from its records: written, compared and repaired.

A study has one study run, and below it one run per trial. Tags identify the runs, so that none is created twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hpo.home import Home
from hpo.ledger.outcome import MLFLOW_STATUS
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import as_reason
from hpo.text import first_line
from hpo.tracking.models import Models
from hpo.tracking.preflight import check_tracking
from hpo.tracking.runs import OUTCOME_TAG, Store, ms_after, numbers, parameters, run_name, storable
from hpo.tracking.study_run import StudyRun
from hpo.tracking.upkeep.naming import TRIAL_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run

REASON_TAG, EPOCHS_TAG = "hpo.reason", "hpo.epochs"
GIVEN_UP_TAG = "hpo.unrepaired"
"""A digest of the differences that a repair has left."""
PARAMETERS_PER_CALL = 100
"""The most that MLflow accepts."""
METRICS_PER_CALL = 900
"""MLflow takes at most 1,000 metrics, parameters and tags per call. The objective is the last metric of its epoch, so
an epoch whose calls were interrupted counts as not sent."""


class Mirror:
    """Brings the MLflow runs of one study in line with its records; repeating a call changes nothing."""

    def __init__(self, study: StudyRecord, home: Home) -> None:
        self.store = Store(study, home)
        self.study_run = StudyRun(self.store)
        self.models = Models(self.store)
        self._study = study
        self._objective = study.spec.objective.field
        self._synced: dict[int, TrialRecord] = {}
        self.runs: dict[int, str] = {}
        """Run ids by trial, for the trials that `sync` was called with."""

    def _create(self, trial: TrialRecord) -> Run:
        tags = {TRIAL_TAG: str(trial.number)}
        run = self.store.create_child(run_name(trial), tags, trial.attempts[0].started)
        self.store.runs.trials.setdefault(trial.number, []).append(run)
        return run

    # --------------------------------------------------------------------------------------- writing

    def begin(self) -> None:
        """Show the study as running."""
        self.study_run.begin(self._study)

    def sync(self, trial: TrialRecord) -> None:
        """Bring one trial's run up to date with its record."""
        synced = self._synced.get(trial.number)
        if not trial.started or (synced is not None and same_content(synced, trial)):
            return
        if synced is None:
            self._sync_first(trial)
        else:
            self._send(trial, len(synced.epochs))
            if (synced.status, synced.kept) != (trial.status, trial.kept):
                self._set_status(trial)
        self._synced[trial.number] = trial

    def _sync_first(self, trial: TrialRecord) -> None:
        """`sync` for a trial of which this mirror knows nothing yet."""
        run = self.store.run_of(trial)
        if run is None:
            run = self._create(trial)
        self.runs[trial.number] = str(run.info.run_id)
        if not _up_to_date(run, trial):
            self._send(trial, self._epochs_in(run))
            self._set_status(trial)

    def _epochs_in(self, run: Run) -> int:
        """The last epoch that the run holds, 0 for none."""
        field = self._objective
        if field not in run.data.metrics:
            return 0
        return max(point.step for point in self.store.client.get_metric_history(run.info.run_id, field))

    def _send(self, trial: TrialRecord, done: int) -> None:
        """Send the metrics of the epochs after `done`, and the parameters and tags, which may be sent repeatedly."""
        from mlflow.entities import Metric, Param, RunTag

        run_id = self.runs[trial.number]
        tags = {
            OUTCOME_TAG: trial.status,
            EPOCHS_TAG: str(len(trial.epochs)),
            "hpo.attempts": str(len(trial.attempts)),
            "hpo.seed": str(trial.seed),
        }
        if trial.origin:
            tags["hpo.origin"] = storable(str(trial.origin))
        if trial.title:
            tags["hpo.label"] = storable(trial.title)
        if trial.outcome:
            tags[REASON_TAG] = storable(trial.outcome.reason)
        searched = [] if trial.number in self._synced else [Param(*item) for item in parameters(trial.assigned).items()]
        while len(searched) > PARAMETERS_PER_CALL:
            self.store.client.log_batch(run_id, params=searched[:PARAMETERS_PER_CALL])
            del searched[:PARAMETERS_PER_CALL]
        metrics = [
            Metric(key, value, int(epoch.recorded * 1000), epoch.metrics.epoch)
            for epoch in trial.epochs[done:]
            for key, value in sorted(numbers(epoch.metrics).items(), key=lambda item: item[0] == self._objective)
        ]
        while len(metrics) > METRICS_PER_CALL - len(searched):
            self.store.client.log_batch(run_id, metrics=metrics[:METRICS_PER_CALL])
            del metrics[:METRICS_PER_CALL]
        # Usually the only call: each costs about 10 ms of the driver's interpreter.
        tagged = [RunTag(key, value) for key, value in tags.items()]
        self.store.client.log_batch(run_id, metrics=metrics, params=searched, tags=tagged)

    def _set_status(self, trial: TrialRecord) -> None:
        run_id, status = self.runs[trial.number], _status(trial)
        if trial.outcome is not None and trial.outcome.final:
            self.store.client.set_terminated(run_id, status, ms_after(trial.finished, trial.attempts[0].started))
        else:
            self.store.client.update_run(run_id, status=status)

    def finish(self, study: StudyRecord) -> str | None:
        """Bring the study run and the retrained models up to date.

        Returns what a person must know if the files could not be written.
        """
        self.store.files.retry()
        self.study_run.finish(study)
        self.models.sync(study)
        return self.file_trouble

    @property
    def file_trouble(self) -> str | None:
        """What a person must know if the files cannot be read or written."""
        return self.store.file_trouble

    # ------------------------------------------------------------------------------- compare and repair

    def differences(self, study: StudyRecord, *, plots: bool = False) -> list[str]:
        """What differs between MLflow and the ledger, a line each.

        Empty if they agree in every run, status, parameter, file and metric of every epoch. With `plots` also the
        plots are checked: whether they show the current state.
        """
        return self.record_differences(study) + self.file_differences(study, plots=plots)

    def file_differences(self, study: StudyRecord, *, plots: bool = False) -> list[str]:
        """The differences in files alone; none where `file_trouble` says that they cannot be compared."""
        lines = [*self.study_run.file_differences(study, plots=plots), *self.models.file_differences(study)]
        return lines if self.store.files.usable else []

    def record_differences(self, study: StudyRecord) -> list[str]:
        """The differences in everything but files."""
        lines = list(self.study_run.differences(study))
        started = {trial.number: trial for trial in study.trials if trial.started}
        unknown = sorted(self.store.runs.trials.keys() - started.keys())
        lines += [f"trial {number} has a run but is not in the ledger" for number in unknown]
        for trial in started.values():
            lines += [f"trial {trial.number} {line}" for line in self._differences(trial)]
        return lines + list(self.models.differences(study))

    def _differences(self, trial: TrialRecord) -> Iterator[str]:
        run = self.store.run_of(trial)
        if run is None:
            yield "has no run"
            return
        if len(self.store.runs.trials[trial.number]) > 1:
            yield f"has {len(self.store.runs.trials[trial.number])} runs"
        if trial.mlflow_run_id != run.info.run_id:
            yield "has a run that the ledger does not know"
        if run.info.status != _status(trial):
            yield f"is {run.info.status}, not {_status(trial)}"
        for key, text in parameters(trial.assigned).items():
            if run.data.params.get(key) != text:
                yield f"has {key} = {run.data.params.get(key)}, not {text}"
        missing, wrong = self.store.metric_differences(run, _by_metric(trial))
        if missing:
            yield f"lacks {missing} metric values"
        if wrong:
            yield f"has {wrong} metric values that the ledger does not have"

    def gave_up(self, lines: list[str]) -> bool:
        """Whether a repair has left exactly these differences before, so that another one would only write again."""
        parents = self.store.runs.parents
        return bool(parents) and parents[-1].data.tags.get(GIVEN_UP_TAG) == _digest(lines)

    def give_up(self, lines: list[str]) -> None:
        """Remember that a repair has left these differences."""
        self.store.client.set_tag(self.store.parent, GIVEN_UP_TAG, _digest(lines))

    def repair_files(self, study: StudyRecord) -> None:
        """Write the files and the models that are missing or show another state."""
        self.study_run.write_files(study)
        self.models.sync(study)

    def repair(self, study: StudyRecord) -> None:
        """Bring MLflow in line with the ledger.

        MLflow cannot remove a value, so a run with wrong values is deleted and written again. A surplus run is deleted
        too. MLflow can restore deleted runs.
        """
        started = {trial.number: trial for trial in study.trials if trial.started}
        for number in list(self.store.runs.trials):
            self._delete_wrong(number, started.get(number))
        for trial in started.values():
            run = self.store.run_of(trial)
            if run is not None and self._lacks_values(trial, run):
                self.runs[trial.number] = str(run.info.run_id)
                self._send(trial, 0)  # MLflow drops the points that it has already
            self.sync(trial)
        self.study_run.repair(study)  # its description has a link to the run of the best trial
        self.models.repair(study)

    def _delete_wrong(self, number: int, trial: TrialRecord | None) -> None:
        """Delete the runs of a trial except the correct one; all of them if the ledger has no such trial."""
        runs = self.store.runs.trials
        kept = self.store.run_of(trial) if trial is not None else None
        if trial is not None and kept is not None and self._is_wrong(trial, kept):
            kept = None
        for run in runs[number]:
            if run is not kept:
                self.store.delete(run)
        runs[number] = [kept] if kept is not None else []

    def _is_wrong(self, trial: TrialRecord, run: Run) -> bool:
        return self.store.metric_differences(run, _by_metric(trial))[1] > 0 or any(
            run.data.params.get(key, text) != text for key, text in parameters(trial.assigned).items()
        )

    def _lacks_values(self, trial: TrialRecord, run: Run) -> bool:
        return not parameters(trial.assigned).items() <= run.data.params.items() or bool(
            self.store.metric_differences(run, _by_metric(trial))[0]
        )


def refresh(study: StudyRecord, home: Home) -> str | None:
    """Show in the study's run and its champion what a confirmation chose; returns a message if MLflow does not take it.

    An error is only reported, because nothing is lost: the ledger has the confirmation.
    """
    if not study.spec.tracking.enabled:
        return None
    try:
        check_tracking(study.spec, home)
        return Mirror(study, home).finish(study)
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises, the confirmation has succeeded
        reason = first_line(as_reason(str(error)))
        remedy = home.command(f"doctor {study.name}")
        return f"warning: MLflow does not show the confirmed trial yet: {reason}. Write it with: {remedy}"


def same_content(before: TrialRecord, after: TrialRecord) -> bool:
    """Whether two records of a trial agree in all that its run shows; the ledger may have noted its run meanwhile."""
    return dataclasses.replace(before, mlflow_run_id=after.mlflow_run_id) == after


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()


def _up_to_date(run: Run, trial: TrialRecord) -> bool:
    """Whether the run holds the trial's newest state, as its tags, its status and its end say."""
    final = trial.outcome is not None and trial.outcome.final
    if final and run.info.end_time is None:  # a driver has died that might have taken it up again
        return False
    return (
        run.data.tags.get(EPOCHS_TAG) == str(len(trial.epochs))
        and run.data.tags.get(OUTCOME_TAG) == trial.status
        and run.info.status == _status(trial)
    )


def _status(trial: TrialRecord) -> str:
    return MLFLOW_STATUS[trial.outcome.ending] if trial.outcome else "RUNNING"


def _by_metric(trial: TrialRecord) -> dict[str, dict[int, float]]:
    """Value by epoch by metric."""
    values: dict[str, dict[int, float]] = {}
    for epoch in trial.epochs:
        for key, value in numbers(epoch.metrics).items():
            values.setdefault(key, {})[epoch.metrics.epoch] = value
    return values
