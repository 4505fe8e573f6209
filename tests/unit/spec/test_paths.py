"""A specification's local paths become absolute; everything else stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo.errors import UsageError
from hpo.spec.parameters import CategoricalParameter, Prior
from hpo.spec.paths import training_with_absolute_paths, with_absolute_paths, with_absolute_tracking
from hpo.spec.training import Training
from tests.conftest import synthetic_spec
from trainers.api import DataConfig, DataError, ModelConfig
from trainers.data.cifar import verify


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("sqlite:///a/studies.db", "sqlite:///{folder}/a/studies.db"),
        ("sqlite+pysqlite:///studies.db?timeout=9", "sqlite+pysqlite:///{folder}/studies.db?timeout=9"),
        ("sqlite:////tmp/studies.db", "sqlite:////tmp/studies.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://host/studies", "postgresql://host/studies"),
    ],
)
def test_only_the_path_of_an_sqlite_file_becomes_absolute(
    url: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = with_absolute_paths(synthetic_spec(storage={"ledger": url, "checkpoints": "s3://bucket/runs"}))
    assert spec.storage.ledger == absolute.format(folder=tmp_path)
    assert spec.storage.checkpoints == "s3://bucket/runs"


def test_files_of_a_warm_start_become_absolute_and_study_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = with_absolute_paths(synthetic_spec(warm_start=("earlier", "best.yaml")))
    assert spec.warm_start == ("earlier", str(tmp_path / "best.yaml"))
    assert Path(spec.data.root).is_absolute()


@pytest.mark.parametrize(
    ("setting", "variable", "cluster"),
    [
        (None, None, None),
        ("local", "head:6379", None),
        (None, "local", None),
        (None, "head:6379", "head:6379"),
        ("ray://other:10001", "head:6379", "ray://other:10001"),
    ],
)
def test_the_setting_goes_before_the_variable_that_names_a_cluster(
    setting: str | None, variable: str | None, cluster: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert synthetic_spec(ray={"address": setting}).ray.cluster() == cluster


def test_searched_weights_become_absolute_in_choices_priors_conditions_and_enqueued_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume, a worker and an exported file read them in another folder."""
    monkeypatch.chdir(tmp_path)
    mine, other = str(tmp_path / "mine.pt"), str(tmp_path / "other.pt")
    when = {"model.pretrained": {"in": ["mine.pt", True], "ne": "other.pt"}}
    spec = synthetic_spec(
        space={
            "model.pretrained": {
                "type": "categorical",
                "choices": [False, True, "mine.pt", mine, "other.pt"],
                "prior": {"center": "mine.pt"},
            },
            "extra.quality": {"type": "float", "low": 0.0, "high": 1.0, "when": when},
            "extra.file": {"type": "categorical", "choices": ["mine.pt"]},
        },
        enqueue=[{"model.pretrained": "mine.pt", "extra.quality": 0.5, "extra.file": "mine.pt"}],
    )
    found = with_absolute_paths(spec)
    weights = found.space["model.pretrained"]
    assert isinstance(weights, CategoricalParameter)
    assert weights.choices == (False, True, mine, other)
    assert weights.prior == Prior(center=mine)
    assert found.space["extra.quality"].when["model.pretrained"].tests() == {"in": (mine, True), "ne": other}
    assert found.space["extra.file"] == spec.space["extra.file"]  # which only the study's own trainer understands
    assert found.enqueue == ({"model.pretrained": mine, "extra.quality": 0.5, "extra.file": "mine.pt"},)
    assert found.base().model.pretrained == mine
    assert type(found).from_json(found.to_json()) == found


def test_mlflows_database_has_an_absolute_path_also_where_only_a_resume_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = synthetic_spec(tracking={"uri": "sqlite:///mlflow.db"})
    for found in (with_absolute_paths(spec), with_absolute_tracking(spec)):
        assert found.tracking.uri == f"sqlite:///{tmp_path}/mlflow.db"
    server = synthetic_spec(tracking={"uri": "http://127.0.0.1:5000"})
    assert with_absolute_paths(server).tracking == server.tracking


def test_a_retraining_has_absolute_paths_of_data_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    training = Training(data=DataConfig(root="images"), model=ModelConfig(pretrained="mine.pt"))
    found = training_with_absolute_paths(training)
    assert (found.data.root, found.model.pretrained) == (str(tmp_path / "images"), str(tmp_path / "mine.pt"))
    assert training_with_absolute_paths(Training()).model.pretrained is True


NOBODY = "~nobody-of-this-name/place"


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("data.root", {"data": DataConfig(root=NOBODY)}),
        ("model.pretrained", {"model": ModelConfig(pretrained=NOBODY)}),
        ("storage.checkpoints", {"storage": {"checkpoints": NOBODY}}),
        ("warm_start", {"warm_start": (NOBODY,)}),
    ],
)
def test_the_home_folder_of_nobody_is_named_with_its_setting(setting: str, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{setting}: {NOBODY} cannot be used: .* is the home folder of nobody; give"):
        with_absolute_paths(synthetic_spec(**given))


def test_a_check_of_the_data_names_the_home_folder_of_nobody() -> None:
    with pytest.raises(DataError, match=NOBODY):
        verify(DataConfig(root=NOBODY))
