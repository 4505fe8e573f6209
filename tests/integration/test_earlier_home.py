"""A home folder that an earlier version wrote is still read, resumed, reported, exported and checked.

`tests/fixtures/earlier_home.tar.xz` was written by the version before the packages of `hpo` existed. It holds three
studies: `finished` (with a confirmation), `interrupted` (its driver was killed while trial 9 trained) and `trained`
(with a retraining). Weights, images and Ray's files are left out, and paths and the host name are replaced.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

import hpo as hpo_interface
from hpo.cli import checks, doctor
from hpo.cli.app import app
from hpo.driver import run as launch
from hpo.home import Home
from hpo.ledger import lock
from hpo.ledger.reader import read_study
from hpo.validation.loader import load_training
from hpo.validation.revision import revise
from tests.conftest import REPOSITORY
from tests.support.views import RecordingView

ARCHIVE = REPOSITORY / "tests" / "fixtures" / "earlier_home.tar.xz"
STORED_HOME = Path("/srv/hpo/home")
"""The folder where the earlier version ran, which MLflow's records name."""
REWORDED = [
    "description",
    "values of the best trial",
    "a tag for each version",
    "no view of the study",
    "specification.yaml",
    "versions.json",
    "best.yaml",
]
"""What this version writes to the study's MLflow run in other words or elsewhere, with settings that are newer than the
study, or in addition."""


@pytest.fixture
def earlier(tmp_path: Path) -> Home:
    """The earlier home folder in a new place."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Home.at(tmp_path / "earlier_home")


def hpo(home: Home, *arguments: object) -> Result:
    done = CliRunner().invoke(app, [*map(str, arguments), "--home", str(home.path)])
    assert done.exit_code == 0, done.output
    return done


def repaired(home: Home, name: str) -> list[str]:
    """What `hpo doctor NAME` finds different and repairs, one word each; fails if anything is left."""
    findings = list(doctor.compare(home, name))
    assert findings[-1].state == "ok"
    assert {finding.state for finding in findings[:-1]} <= {"differs"}
    return [next((word for word in REWORDED if word in finding.text), finding.text) for finding in findings[:-1]]


@pytest.mark.parametrize(
    ("name", "counts", "best", "accuracy"),
    [
        ("finished", {"complete": 3, "pruned": 3, "failed": 4}, 9, 0.9415627425727189),
        ("interrupted", {"complete": 2, "pruned": 3, "failed": 6, "running": 1}, 2, 0.8557272526569951),
        ("trained", {"complete": 3}, 1, 0.1),
    ],
)
def test_status_shows_what_the_earlier_version_recorded(
    earlier: Home, name: str, counts: dict[str, int], best: int, accuracy: float
) -> None:
    study = json.loads(hpo(earlier, "status", name, "--json").stdout)
    assert Counter(trial["status"] for trial in study["trials"]) == counts
    assert (study["best"], study["best_val_accuracy"]) == (best, accuracy)
    assert f"trial {best}" in hpo(earlier, "status", name).stdout


@pytest.mark.parametrize(
    ("name", "best", "confirmed"), [("finished", 9, 9), ("interrupted", 2, None), ("trained", 1, None)]
)
def test_a_program_loads_what_the_earlier_version_recorded(
    earlier: Home, name: str, best: int, confirmed: int | None
) -> None:
    study = hpo_interface.load_study(name, home=earlier.path)
    assert study.best is not None
    assert (study.best.trial, study.confirmed and study.confirmed.trial) == (best, confirmed)
    ended = study.trials[study.trials["state"] == "complete"].set_index("trial")
    assert ended["value"].idxmax() == best
    epochs = study.epochs.groupby("trial")["epoch"].count()
    assert epochs.to_dict() == {row.trial: row.epochs for row in study.trials.itertuples() if row.epochs}
    assert {found.name for found in hpo_interface.studies(home=earlier.path)} == {"finished", "interrupted", "trained"}


def test_the_confirmation_of_an_earlier_version_still_chooses_its_trial(earlier: Home) -> None:
    confirmation = json.loads(hpo(earlier, "status", "finished", "--json").stdout)["confirmation"]
    assert (confirmation["complete"], confirmation["done"], confirmation["planned"]) == (True, 6, 6)
    assert confirmation["chosen"] == 9
    assert confirmation["ranking"][0]["accuracies"] == {"0": 0.9363397241405536, "1": 0.9262353490663847}


def test_the_test_set_evaluation_of_an_earlier_version_still_counts(earlier: Home) -> None:
    info = read_study(earlier, "trained").info
    assert [(entry["trial"], entry["test_accuracy"]) for entry in info["test_set_evaluations"]] == [(1, 0.1005)]
    assert [(entry["trial"], entry["test_accuracies"]) for entry in info["retrainings"]] == [(1, [0.1005])]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_an_interrupted_study_of_an_earlier_version_continues_from_its_recorded_epochs(
    earlier: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LEASE_S", 1.0)  # its driver ran on another host; test_lease.py covers the wait for it
    before = read_study(earlier, "interrupted")
    assert (before.trials[9].status, len(before.trials[9].epochs)) == ("running", 3)

    study = launch.resume(
        "interrupted",
        earlier,
        view=RecordingView(),
        changes=lambda recorded: revise(recorded, ["budget.trials=13"]),
    )

    assert len(study.trials) == 13
    assert all(trial.outcome is not None and trial.outcome.final for trial in study.trials)
    assert study.trials[:9] == before.trials[:9]
    resumed, recorded = study.trials[9], before.trials[9]
    assert resumed.status == "complete"
    assert resumed.epochs[:3] == recorded.epochs
    assert [epoch.metrics.epoch for epoch in resumed.epochs] == list(range(1, 9))
    assert [attempt.resumed_after for attempt in resumed.attempts] == [0, 3]
    assert (study.best, resumed.value) == (resumed, 0.9415627425727189)  # the same end as in `finished`
    stored = read_study(earlier, "interrupted")
    assert [(trial.status, trial.epochs) for trial in stored.trials] == [
        (trial.status, trial.epochs) for trial in study.trials
    ]
    assert repaired(earlier, "interrupted") == []
    assert not STORED_HOME.exists()


def test_mlflow_follows_a_home_folder_that_was_moved(earlier: Home) -> None:
    """MLflow stores absolute paths of files. The doctor says that it rewrote them, once."""
    moved = checks.artifacts(earlier)
    assert (moved.state, f"file://{STORED_HOME}/mlartifacts/trained is now" in moved.text) == ("differs", True)
    assert checks.artifacts(earlier).state == "ok"
    client = MlflowClient(tracking_uri=earlier.mlflow_url)
    experiment = client.get_experiment_by_name("trained")
    assert experiment.artifact_location == (earlier.artifacts / "trained").as_uri()
    folders = [run.info.artifact_uri for run in client.search_runs([experiment.experiment_id])]
    assert folders
    assert all(folder.startswith(f"{experiment.artifact_location}/") for folder in folders)
    (model,) = client.search_model_versions("name = 'trained'")
    assert model.source.startswith(f"{experiment.artifact_location}/")


@pytest.mark.parametrize("name", ["finished", "interrupted", "trained"])
def test_the_report_of_an_earlier_study_is_written(earlier: Home, name: str, tmp_path: Path) -> None:
    hpo(earlier, "report", name, "-o", tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert name in page
    assert "crash on demand" in page or name == "trained"


def test_doctor_repairs_in_mlflow_only_what_this_version_words_otherwise(earlier: Home) -> None:
    assert repaired(earlier, "trained") == REWORDED
    assert repaired(earlier, "trained") == []


def test_doctor_writes_the_configuration_that_a_confirmation_chose_to_mlflow(earlier: Home) -> None:
    """The doctor of the earlier version repairs this, too: a confirmation does not write to the run of its study."""
    assert repaired(earlier, "finished") == REWORDED
    assert repaired(earlier, "finished") == []


@pytest.mark.parametrize("name", ["finished", "interrupted", "trained"])
def test_an_export_of_an_earlier_study_is_the_configuration_that_it_kept(
    earlier: Home, name: str, tmp_path: Path
) -> None:
    kept = load_training(str(earlier.incumbent(name)))
    hpo(earlier, "export", name, "-o", tmp_path / "best.yaml")
    exported = load_training(str(tmp_path / "best.yaml"))
    assert exported.config() == kept.config()
    # How sure a confirmation is, each version works out in its own way.
    certainty = {"confirmed_low", "confirmed_high", "confirmed_probability"}
    assert exported.provenance.model_dump(exclude=certainty) == kept.provenance.model_dump(exclude=certainty)
