"""A specification's local paths become absolute; everything else stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo.errors import UsageError
from hpo.spec.paths import with_absolute_paths
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
