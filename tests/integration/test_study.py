"""Whole studies through real Ray, Optuna on SQLite and MLflow on SQLite, with a synthetic trainer."""

from __future__ import annotations

import math

import pytest
from mlflow import MlflowClient

from hpo.driver import run as launch
from hpo.errors import NoTrialSucceeded, UsageError
from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.tracking.upkeep.naming import TRIAL_TAG
from tests.conftest import synthetic_spec
from tests.support.views import RecordingView

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

UNTRACKED = {"tracking": {"enabled": False}}
"""Of studies that MLflow is not asked about: its process takes more processor time than they do."""


def runs_by_trial(study: StudyRecord, home: Home) -> dict[int, object]:
    """MLflow's child runs of a study by trial number; fails where a trial has two."""
    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiment = client.get_experiment_by_name(study.name)
    children = [run for run in client.search_runs([experiment.experiment_id]) if TRIAL_TAG in run.data.tags]
    numbers = [int(run.data.tags[TRIAL_TAG]) for run in children]
    assert sorted(numbers) == sorted(set(numbers))
    return dict(zip(numbers, children, strict=True))


def assert_mlflow_agrees(study: StudyRecord, home: Home) -> None:
    """Trial for trial: run, status, parameters, every epoch once with its value."""
    client = MlflowClient(tracking_uri=home.mlflow_url)
    runs = runs_by_trial(study, home)
    assert set(runs) == {trial.number for trial in study.trials if trial.started}
    statuses = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "SCHEDULED"}
    for trial in study.trials:
        run = runs[trial.number]
        assert run.info.run_id == trial.mlflow_run_id
        assert run.info.status == statuses[trial.status]
        assert run.data.tags["hpo.outcome"] == trial.status
        for path, value in trial.values.items():
            assert math.isclose(float(run.data.params[path]), value)
        history = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)] == [
            (epoch.metrics.epoch, epoch.metrics.val_accuracy) for epoch in trial.epochs
        ]


def outcomes(study: StudyRecord) -> dict[int, str]:
    """Status by trial number."""
    return {trial.number: trial.status for trial in study.trials}


def reason(trial: TrialRecord) -> str:
    """Why a trial ended."""
    assert trial.outcome is not None
    return trial.outcome.reason


def test_optuna_and_mlflow_are_told_every_way_a_trial_can_end(home: Home) -> None:
    """Finished, pruned, NaN, crash and a worker that dies for good: Optuna and MLflow are told the truth."""
    spec = synthetic_spec(
        "endings",
        extra={"seconds": 0.0, "light": True},
        space={
            "extra.quality": {"type": "float", "low": 0.0, "high": 1.0},
            "extra.nan_at": {"type": "int", "low": 0, "high": 9},
            "extra.crash_at": {"type": "int", "low": 0, "high": 9},
            "extra.exit_at": {"type": "int", "low": 0, "high": 9},
        },
        enqueue=[
            {"extra.quality": 0.9, "extra.nan_at": 0, "extra.crash_at": 0, "extra.exit_at": 0},
            {"extra.quality": 0.1, "extra.nan_at": 0, "extra.crash_at": 0, "extra.exit_at": 0},
            {"extra.quality": 0.95, "extra.nan_at": 3, "extra.crash_at": 0, "extra.exit_at": 0},
            {"extra.quality": 0.96, "extra.nan_at": 0, "extra.crash_at": 2, "extra.exit_at": 0},
            {"extra.quality": 0.97, "extra.nan_at": 0, "extra.crash_at": 0, "extra.exit_at": 2},
        ],
        budget={"trials": 5},
        concurrency=1,
        retries=1,
    )
    study = launch.run(spec, home, view=RecordingView())
    assert outcomes(study) == {0: "complete", 1: "pruned", 2: "failed", 3: "failed", 4: "failed"}
    assert "nan after epoch 3" in reason(study.trials[2])
    assert len(study.trials[2].epochs) == 2, "a NaN trial stops at once and its NaN is no value"
    assert "ValueError: a crash on demand" in reason(study.trials[3])
    assert "lost its worker 2 times" in reason(study.trials[4])
    assert len(study.trials[4].attempts) == 2

    import optuna

    stored = optuna.load_study(study_name="endings", storage=open_storage(home.ledger_url))
    assert [trial.state.name for trial in stored.trials] == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL"]
    assert [len(trial.intermediate_values) for trial in stored.trials] == [len(one.epochs) for one in study.trials]
    assert study.best is not None
    assert study.best.number == 0
    assert_mlflow_agrees(load_study(open_storage(home.ledger_url), "endings"), home)


def test_a_trial_that_lost_its_worker_continues_from_its_checkpoint(home: Home) -> None:
    """One death costs one attempt and no epoch is reported twice. The checkpoint is torch's own, in the real store."""
    spec = synthetic_spec(
        "lost",
        extra={"seconds": 0.0, "exit_at": 4, "exit_once": True},
        budget={"trials": 1},
    )
    study = launch.run(spec, home, view=RecordingView())
    (trial,) = study.trials
    assert trial.complete
    assert [attempt.resumed_after for attempt in trial.attempts] == [0, 3]
    assert [epoch.metrics.epoch for epoch in trial.epochs] == list(range(1, 9))
    assert_mlflow_agrees(study, home)


def test_one_worker_serves_all_trials_and_the_seed_decides(home: Home) -> None:
    """The same seed gives the same configurations, and the actor's process stays the same."""
    alone = {"concurrency": 1, "extra": {"seconds": 0.0, "light": True}}
    first = launch.run(synthetic_spec("first", **alone), home, view=RecordingView())
    second = launch.run(synthetic_spec("second", **alone, **UNTRACKED), home, view=RecordingView())
    other = launch.run(synthetic_spec("other", **alone, **UNTRACKED, seed=1), home, view=RecordingView())
    assert [trial.values for trial in first.trials] == [trial.values for trial in second.trials]
    assert [trial.values for trial in first.trials] != [trial.values for trial in other.trials]
    pids = {attempt.pid for trial in first.trials for attempt in trial.attempts}
    assert len(pids) == 1
    assert_mlflow_agrees(first, home)


def test_an_interrupted_study_is_resumed_to_the_same_end(home: Home) -> None:
    """A stop in the middle leaves nothing RUNNING; resuming finishes the same trials."""
    budget = {"trials": 6, "hours": 0.2 / 3600, "when_reached": "checkpoint"}
    spec = synthetic_spec("stopped", extra={"seconds": 0.2, "light": True}, budget=budget, concurrency=2)
    launch.run(
        spec, home, view=RecordingView()
    )  # where Ray's first worker takes longer than that to start, nothing is trained
    halted = load_study(open_storage(home.ledger_url), "stopped")
    assert halted.ended is not None
    assert halted.ended.startswith("budget.hours")
    assert {trial.status for trial in halted.trials if trial.started} <= {"interrupted"}
    study = launch.resume(
        "stopped",
        home,
        view=RecordingView(),
        changes=lambda old: old.model_copy(update={"budget": synthetic_spec().budget}),
    )
    assert len(study.trials) == 8
    assert set(outcomes(study).values()) <= {"complete", "pruned"}
    for trial in study.trials:
        assert [epoch.metrics.epoch for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))
    assert_mlflow_agrees(study, home)


def test_a_study_whose_trials_all_fail_is_an_error(home: Home) -> None:
    """The study ends with an error of its own that says why the first trial failed."""
    extra = {"seconds": 0.0, "light": True, "crash_at": 1}
    spec = synthetic_spec("doomed", extra=extra, budget={"trials": 2}, concurrency=1, **UNTRACKED)
    with pytest.raises(NoTrialSucceeded, match="a crash on demand"):
        launch.run(spec, home, view=RecordingView())


def test_a_second_study_of_the_same_name_is_refused(home: Home) -> None:
    """Two studies of one name never merge."""
    spec = synthetic_spec("twin", extra={"seconds": 0.0, "light": True}, budget={"trials": 1}, **UNTRACKED)
    launch.run(spec, home, view=RecordingView())
    with pytest.raises(UsageError, match=r"exists already; continue it with `hpo resume \w+ --home "):
        launch.run(spec, home, view=RecordingView())


def test_a_trial_that_needs_more_than_any_node_has_is_refused_at_once(home: Home) -> None:
    """No trial waits for ever for resources that do not exist."""
    with pytest.raises(UsageError, match="no node has that many"):
        launch.run(synthetic_spec("greedy", resources={"cpus": 64}, **UNTRACKED), home, view=RecordingView())
