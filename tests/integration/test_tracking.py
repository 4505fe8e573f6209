"""The study run and the runs of trials in MLflow."""

from __future__ import annotations

import dataclasses
import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.home import Home
from hpo.ledger.records import Repeat, StudyRecord
from hpo.results.best import leaders, training
from hpo.tracking.mirror import Mirror, refresh
from hpo.tracking.study_content import course
from hpo.tracking.system_metrics import SystemMonitor
from hpo.tracking.tracker import Tracker
from hpo.tracking.upkeep.naming import TRIAL_TAG
from reports.page.render import plots
from tests.browser.simulation import simulated_study
from tests.support.mlflow_runs import points, runs


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    """Complete, pruned and failed trials, with URIs that hold a password."""
    made = simulated_study("shown", trials=12, epochs=8)
    hidden = made.spec.storage.model_copy(update={"ledger": "postgresql://me:s3cret@db/optuna"})
    return dataclasses.replace(made, spec=made.spec.model_copy(update={"storage": hidden}))


def written(study: StudyRecord, home: Home) -> Mirror:
    """Write a study to MLflow with a new mirror, which does not know what MLflow has already."""
    mirror = Mirror(study, home)
    mirror.begin()
    for trial in study.trials:
        mirror.sync(trial)
    mirror.finish(study)
    return mirror


def test_the_study_run_describes_the_study(home: Home, study: StudyRecord) -> None:
    mirror = written(study, home)
    mirror.study_run.draw(study, plots(study))
    client, parent = MlflowClient(tracking_uri=home.mlflow_url), mirror.store.parent
    assert study.best is not None
    assert study.best.value is not None
    run = client.get_run(parent)
    note = run.data.tags["mlflow.note.content"]
    for words in ("45000 images to train on", "tf_efficientnetv2_s", "search: gp", "best so far"):
        assert words in note, note
    assert f"trial {study.best.number}, validation accuracy {100 * study.best.value:.2f} %" in note
    assert "| train.lr | a number from 0.0001 to 0.01, logarithmic |" in note

    ends = sorted((one.finished or math.inf, one.number) for one in study.trials)
    best_after = []
    for count in range(1, len(ends) + 1):
        numbers = {number for _, number in ends[:count]}
        done = dataclasses.replace(study, trials=tuple(one for one in study.trials if one.number in numbers))
        if done.best is not None and done.best.value is not None:
            best_after.append((count, done.best.value))
    assert points(client, parent, "incumbent/val_accuracy") == best_after
    assert len(best_after) > 3
    assert points(client, parent, "incumbent/trial")[-1] == (12, study.best.number)

    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("cifar10", "abababab")
    assert json.loads(given.dataset.profile)["train_count"] == 45_000
    files = {one.path: one.file_size for one in client.list_artifacts(parent)}
    assert set(files) == {"specification.yaml", "data.json", "versions.json", "best.yaml", "plots"}
    images = {one.path: one.file_size for one in client.list_artifacts(parent, "plots")}
    assert set(images) == {f"plots/{name}.png" for name in ("history", "curves")}  # too few trials for importances
    assert min(images.values()) > 10_000
    specification = Path(client.download_artifacts(parent, "specification.yaml")).read_text()
    assert "s3cret" not in specification
    assert "postgresql://me:***@db/optuna" in specification
    assert Path(client.download_artifacts(parent, "best.yaml")).read_text() == training(study).to_yaml()


def test_runs_of_trials_sort_by_number_and_hold_the_searched_parameters(home: Home, study: StudyRecord) -> None:
    written(study, home)
    client = MlflowClient(tracking_uri=home.mlflow_url)
    children = {run.info.run_name: run for run in runs(client, "shown") if TRIAL_TAG in run.data.tags}
    assert sorted(children) == [f"trial-{number:05d}" for number in range(12)]
    statuses = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    for trial, name in zip(study.trials, sorted(children), strict=True):
        run = children[name]
        assert run.info.status == statuses[trial.status]
        assert run.data.params.keys() == set(trial.values)
        for path, value in trial.values.items():
            assert run.data.params[path] == str(value)
            assert isinstance(value, str) or float(run.data.params[path]) == value
        assert run.data.tags["hpo.seed"] == str(trial.seed)
        steps = [step for step, _ in points(client, run.info.run_id, "val_accuracy")]
        assert steps == [one.metrics.epoch for one in trial.epochs]
        assert run.data.tags["mlflow.parentRunId"] != run.info.run_id


def test_the_study_run_has_the_values_of_the_best_trial_under_their_own_names(home: Home, study: StudyRecord) -> None:
    for _ in range(2):  # the second mirror finds them there
        mirror = written(study, home)
    client, parent = MlflowClient(tracking_uri=home.mlflow_url), mirror.store.parent
    assert study.best is not None
    best = client.get_run(mirror.runs[study.best.number]).data.metrics
    shown = client.get_run(parent).data.metrics
    assert {name: shown[name] for name in best} == best
    assert points(client, parent, "val_accuracy") == [(8, best["val_accuracy"])]


def test_the_run_of_a_study_links_to_the_run_of_its_best_trial(home: Home, study: StudyRecord) -> None:
    mirror = written(study, home)
    assert study.best is not None
    note = MlflowClient(tracking_uri=home.mlflow_url).get_run(mirror.store.parent).data.tags["mlflow.note.content"]
    place = f"#/experiments/{mirror.store.experiment}/runs/{mirror.runs[study.best.number]}"
    assert f"- [the run of trial {study.best.number}]({place}?workflowType=machine_learning)" in note


def test_versions_are_a_file_and_no_tags(home: Home, study: StudyRecord) -> None:
    mirror = written(study, home)
    client, parent = MlflowClient(tracking_uri=home.mlflow_url), mirror.store.parent
    assert json.loads(Path(client.download_artifacts(parent, "versions.json")).read_text()) == study.info["versions"]
    assert [key for key in client.get_run(parent).data.tags if key.startswith("version")] == []


def test_a_study_that_an_earlier_version_wrote_is_brought_to_the_form_of_this_one(
    home: Home, study: StudyRecord
) -> None:
    """It kept versions in tags, knew no view, and gave the study run no values of the best trial."""
    mirror = written(study, home)
    client, parent = MlflowClient(tracking_uri=home.mlflow_url), mirror.store.parent
    client.set_tag(parent, "version.torch", "2.11.0")
    client.set_tag(parent, "version.ray", "2.60.0")
    with closing(sqlite3.connect(home.path / "mlflow.db")) as database, database:
        database.execute("DELETE FROM experiment_tags WHERE key LIKE '%sharedViewState%'")
        for table in ("metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ? AND key NOT LIKE '%/%'", (parent,))

    found = list(Mirror(study, home).study_run.differences(study))
    assert found == [
        "the study run does not show the values of the best trial",
        "the study run has a tag for each version of a package",
        "MLflow's list of runs has no view of the study",
    ]
    Mirror(study, home).repair(study)
    assert list(Mirror(study, home).study_run.differences(study)) == []
    assert Mirror(study, home).store.parent == parent


def as_of(study: StudyRecord, moment: float) -> StudyRecord:
    """The record of the study at an earlier moment, when some of its trials were still running."""
    trials = []
    for trial in study.trials:
        if not trial.attempts or trial.attempts[0].started > moment:
            continue
        if trial.finished is None or trial.finished > moment:
            epochs = tuple(epoch for epoch in trial.epochs if epoch.recorded <= moment)
            attempts = tuple(dataclasses.replace(attempt, ended=None) for attempt in trial.attempts)
            trial = dataclasses.replace(trial, epochs=epochs, attempts=attempts, outcome=None, finished=None)
        trials.append(trial)
    return dataclasses.replace(study, trials=tuple(trials))


def test_writing_a_study_again_changes_nothing_in_mlflow(home: Home, study: StudyRecord) -> None:
    ends = sorted(trial.finished or math.inf for trial in study.trials)
    half = as_of(study, ends[6])
    assert 0 < half.count("running") < len(half.trials)
    written(half, home)
    written(study, home)
    mirror = written(study, home)
    assert [line for line in Mirror(study, home).differences(study) if "ledger does not know" not in line] == []
    client = MlflowClient(tracking_uri=home.mlflow_url)
    assert len(runs(client, "shown")) == 13
    assert len(points(client, mirror.store.parent, "incumbent/trial")) == len(list(course(study)))


def test_damage_to_the_study_run_is_found_and_repaired(home: Home, study: StudyRecord) -> None:
    mirror = written(study, home)
    client, parent = MlflowClient(tracking_uri=home.mlflow_url), mirror.store.parent
    client.log_metric(parent, "incumbent/val_accuracy", 0.1, step=3)
    client.set_tag(parent, "mlflow.note.content", "something else")
    client.log_text(parent, "stale", "best.yaml")
    twin = client.create_run(mirror.store.experiment, tags=mirror.store.tags)
    stray = mirror.runs[4]
    client.set_tag(stray, "mlflow.parentRunId", "nobody")

    checked = Mirror(study, home)
    found = checked.differences(study, plots=True)
    for line in (
        "the study has 2 study runs",
        "the description shows another state of the study",
        "the study run has 1 metric values that do not follow from the ledger",
        "the file best.yaml shows another state of the study",
        "the plots show another state of the study",
        "1 runs are not below the study run",
    ):
        assert line in found, found
    checked.repair(study)
    checked.study_run.draw(study, plots(study))
    left = Mirror(study, home).differences(study, plots=True)
    assert [line for line in left if "ledger does not know" not in line] == []
    assert client.get_run(twin.info.run_id).info.lifecycle_stage == "deleted"
    (own,) = [run for run in runs(client, "shown") if TRIAL_TAG not in run.data.tags]
    assert client.get_run(stray).data.tags["mlflow.parentRunId"] == own.info.run_id


def broken(study: StudyRecord) -> dict[str, bytes]:
    """Plots that cannot be drawn."""
    raise ValueError("no such colour")


def test_a_broken_plot_is_reported_and_costs_no_record(home: Home, study: StudyRecord) -> None:
    tracker = Tracker.start(study, home, figures=broken, system_metrics=True)
    said = tracker.close(study)
    assert said is not None
    assert "ValueError: no such colour" in said
    assert [line for line in Mirror(study, home).differences(study) if "ledger does not know" not in line] == []


def test_system_metrics_are_sampled(home: Home, study: StudyRecord) -> None:
    mirror = Mirror(study, home)
    mirror.begin()
    mirror.study_run.sample(SystemMonitor().sample(), study, study.info["created"] + 30.0)
    client = MlflowClient(tracking_uri=home.mlflow_url)
    found = client.get_run(mirror.store.parent).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= found.keys()
    assert found["system/system_memory_usage_megabytes"] > 100
    ((step, _),) = points(client, mirror.store.parent, "system/cpu_utilization_percentage")
    assert step == 30
    assert not [line for line in Mirror(study, home).differences(study) if "metric" in line and "run has" in line]


def test_the_study_run_names_the_trial_that_a_confirmation_chose(home: Home, study: StudyRecord) -> None:
    """`hpo confirm` writes the run of the study again: its tag, its description and `best.yaml`."""
    best, other = leaders(study, 2)
    parent = written(study, home).store.parent
    client = MlflowClient(tracking_uri=home.mlflow_url)
    assert client.get_run(parent).data.tags["hpo.best_trial"] == str(best.number)

    repeats = tuple(
        dataclasses.replace(like, values=chosen.values, repeat=Repeat(chosen.number, seed, seed, baseline=False))
        for chosen, like in ((other, best), (best, other))
        for seed in (0, 1)
    )
    confirmed = dataclasses.replace(study, repeats=repeats)
    name = other.number
    found = list(Mirror(confirmed, home).study_run.differences(confirmed))
    assert f"the study run does not name trial {name} as the best" in found
    assert refresh(confirmed, home) is None
    run = client.get_run(parent)
    assert run.data.tags["hpo.best_trial"] == str(name)
    assert run.data.tags["hpo.confirmed_trial"] == str(name)
    note = run.data.tags["mlflow.note.content"]
    assert f"- confirmed: trial {name}, mean validation accuracy over new seeds" in note
    assert f"- [the run of trial {name}](#/experiments/" in note
    own = next(trial for trial in study.trials if trial.number == name).epochs[-1].metrics
    assert run.data.metrics["val_accuracy"] == own.val_accuracy
    assert f"trial: {name}\n" in Path(client.download_artifacts(parent, "best.yaml")).read_text()
    assert list(Mirror(confirmed, home).study_run.differences(confirmed)) == []


def test_a_confirmation_succeeds_while_the_tracking_server_is_down(
    home: Home, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    said = refresh(study, home)
    assert said is not None
    assert said.startswith("warning: MLflow does not show the confirmed trial yet")
    assert said.endswith(f"hpo doctor shown --home {home.path}")
