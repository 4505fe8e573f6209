"""A study that was renamed or removed, in a real MLflow: one run of each trial under one name, or none at all."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from hpo.cli import doctor
from hpo.driver.confirm import specification
from hpo.driver.steering.removal import removal
from hpo.driver.steering.renaming import rename
from hpo.home import Home, confirmation_of
from hpo.ledger.lock import Lease
from hpo.ledger.reader import load_study, read_study
from hpo.ledger.records import Repeat
from hpo.ledger.storage import open_storage
from hpo.ledger.test_set_log import record_retraining
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.spec.study import Budget
from hpo.tracking.mirror import Mirror
from hpo.tracking.upkeep.naming import STUDY_TAG, follow, view_tag
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import finish

RETRAINED = {"trial": 0, "test_accuracy": 0.5, "test_accuracies": [0.5], "test_accuracy_std": None, "seeds": [0]}


def track(home: Home, name: str) -> None:
    """A study of two trials with a confirmation and a retraining, and all of it in MLflow."""
    storage, spec = open_storage(home.ledger_url), synthetic_spec(name, budget={"trials": 2})
    home.study(confirmation_of(name)).mkdir(parents=True)
    lease, info = Lease.here(str(home.study(name))), {"identity": uuid.uuid4().hex, "created": 1.0}
    finish(Ledger.create(storage, spec, info, study_sampler(spec), lease), Path(home.checkpoints(name)))
    again = specification(load_study(storage, name))
    repeats = [(Repeat(0, index, index + 7, baseline=True), {"extra.quality": 0.5}) for index in (0, 1)]
    ledger = Ledger.create(open_storage(home.ledger_url), again, info, None, lease, name=confirmation_of(name))
    ledger.plan(repeats)
    ledger.respecify(again.model_copy(update={"budget": Budget(trials=2)}))
    finish(ledger, Path(home.checkpoints(confirmation_of(name))))
    record_retraining(storage, name, RETRAINED | {"output": str(home.path / "gone"), "recorded": 2.0})
    write(home, name)
    (retrained,) = [run for run in runs(home) if "hpo.retraining" in run.data.tags and run.data.tags[STUDY_TAG] == name]
    client(home).create_registered_model(name)
    client(home).create_model_version(name, retrained.info.artifact_uri, retrained.info.run_id)
    write(home, name)


def write(home: Home, name: str) -> None:
    """What a driver writes to MLflow."""
    for study in (read_study(home, name), load_study(open_storage(home.ledger_url), confirmation_of(name))):
        mirror = Mirror(study, home)
        for trial in study.trials:
            mirror.sync(trial)
        mirror.finish(study)


def client(home: Home) -> MlflowClient:
    return MlflowClient(tracking_uri=home.mlflow_url)


def runs(home: Home) -> list[Run]:
    places = [experiment.experiment_id for experiment in client(home).search_experiments()]
    return list(client(home).search_runs(places))


def told(home: Home) -> dict[str, set[str]]:
    """The runs of each name of a study."""
    found: dict[str, set[str]] = {}
    for run in runs(home):
        found.setdefault(run.data.tags[STUDY_TAG], set()).add(run.info.run_id)
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home.at(tmp_path_factory.mktemp("tracked") / "home").create()
    track(home, "old")
    track(home, "other")
    return home.path


@pytest.fixture
def tracked(template: Path, tmp_path: Path) -> Home:
    """A home folder with the tracked studies `old` and `other`."""
    _artifact_repos_cache.clear()  # in which the runs of a copy have the folders of the original
    shutil.copytree(template, tmp_path / "home")
    return Home.at(tmp_path / "home")


def test_mlflow_has_the_same_runs_under_the_new_name_and_no_others(tracked: Home) -> None:
    before = told(tracked)
    changes = rename("old", "new", tracked).changes
    assert "MLflow: 7 runs" in changes
    expected = {name.replace("old", "new"): found for name, found in before.items()}
    assert told(tracked) == expected
    write(tracked, "new")
    assert told(tracked) == expected, "the next driver finds the runs"
    experiment = client(tracked).get_experiment_by_name("new")
    assert client(tracked).get_experiment_by_name("old") is None
    assert [tag for tag in experiment.tags if tag.startswith(view_tag(""))] == [
        view_tag("new"),
        view_tag(confirmation_of("new")),
    ]
    (own,) = [run for run in runs(tracked) if run.info.run_name == "new"]
    assert own.data.tags["mlflow.note.content"].startswith("**new**")
    text = Path(client(tracked).download_artifacts(own.info.run_id, "specification.yaml")).read_text()
    assert "study: new\n" in text
    (model,) = client(tracked).search_registered_models("name = 'new'")
    assert model.description == "Retrained configurations of study new"
    assert client(tracked).search_registered_models("name = 'old'") == []
    assert client(tracked).search_registered_models("name = 'other'")
    study = read_study(tracked, "new")
    assert follow(client(tracked), study) == 0
    assert [line for line in Mirror(study, tracked).differences(study) if "does not know" not in line] == []


@pytest.mark.parametrize(
    "call", ["rename_experiment", "set_tag", "update_run", "rename_registered_model", "delete_experiment_tag"]
)
def test_an_outage_in_the_middle_is_told_and_the_doctor_completes_the_renaming(
    tracked: Home, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = told(tracked)

    def fails(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, fails)
        done = rename("old", "new", tracked)
    assert done.trouble is not None
    assert "new has its name, but not in all of MLflow: the server is gone. Go on: hpo doctor new" in done.trouble
    assert read_study(tracked, "new").former_names == ("old",)
    findings = list(doctor.compare(tracked, "new"))
    assert findings[-1].state == "ok", findings
    assert told(tracked) == {name.replace("old", "new"): found for name, found in before.items()}
    assert client(tracked).search_registered_models("name = 'new'")


def test_an_experiment_that_others_use_or_whose_new_name_is_taken_keeps_its_name(tracked: Home) -> None:
    before = told(tracked)
    client(tracked).create_experiment("new")
    changes = rename("old", "new", tracked).changes
    assert "MLflow's experiment keeps the name old: MLflow has an experiment new already" in changes
    assert read_study(tracked, "new").spec.tracking.experiment == "old"
    write(tracked, "new")
    assert told(tracked) == {name.replace("old", "new"): found for name, found in before.items()}


def test_mlflow_that_is_left_alone_follows_with_the_next_driver(tracked: Home) -> None:
    before = told(tracked)
    rename("old", "new", tracked, keep_mlflow=True)
    assert told(tracked) == before
    write(tracked, "new")
    assert told(tracked) == {name.replace("old", "new"): found for name, found in before.items()}


def test_a_later_study_of_the_old_name_keeps_its_runs(tracked: Home) -> None:
    rename("old", "new", tracked)
    track(tracked, "old")
    before = told(tracked)
    write(tracked, "new")
    assert told(tracked) == before
    assert client(tracked).get_experiment_by_name("old") is not None
    rename("new", "newest", tracked)
    assert told(tracked).keys() == {name.replace("new", "newest") for name in before}


# --------------------------------------------------------------------------------------------------- hpo rm


def files(home: Home, name: str) -> list[Path]:
    return [path for path in (home.artifacts / name).rglob("*") if path.is_file()]


def test_a_removed_study_leaves_no_run_no_file_and_no_model_in_mlflow(tracked: Home) -> None:
    assert files(tracked, "old")
    with removal("old", tracked) as remains:
        lines = list(remains.lines())
        remains.remove()
    assert any(line.startswith("MLflow: 7 runs, ") for line in lines)
    assert "MLflow: the registered model old with 1 version" in lines
    assert told(tracked).keys() == {"other", confirmation_of("other")}
    assert files(tracked, "old") == []
    assert files(tracked, "other")
    assert client(tracked).get_experiment_by_name("old") is None, "a new study may have the name"
    assert [model.name for model in client(tracked).search_registered_models()] == ["other"]


def test_a_registered_model_with_versions_of_other_studies_stays_and_that_is_said(tracked: Home) -> None:
    (run, *_) = [run for run in runs(tracked) if run.data.tags[STUDY_TAG] == "other"]
    client(tracked).create_model_version("old", run.info.artifact_uri, run.info.run_id)
    with removal("old", tracked) as remains:
        assert (
            "MLflow: the registered model old with 2 versions stays, because it has versions of other studies"
            in remains.lines()
        )
        remains.remove()
    assert len(client(tracked).search_model_versions("name = 'old'")) == 2


def test_a_study_that_is_removed_without_its_runs_leaves_all_of_mlflow(tracked: Home) -> None:
    before, kept = told(tracked), files(tracked, "old")
    with removal("old", tracked, keep_mlflow=True) as remains:
        assert not [line for line in remains.lines() if "MLflow" in line]
        remains.remove()
    assert told(tracked) == before
    assert files(tracked, "old") == kept
    assert client(tracked).search_registered_models("name = 'old'")
    assert not tracked.study("old").exists()
