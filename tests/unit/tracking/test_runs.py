"""Where a study is tracked, and how its numbers compare with what MLflow stores."""

from __future__ import annotations

import math

import pytest

from hpo.home import Home
from hpo.spec.study import Spec, Tracking
from hpo.tracking.runs import LARGEST, ms, numbers, same, tracking_server, tracking_uri
from tests.support.sample_records import SPEC
from trainers.api import EpochMetrics


def tracked_at(uri: str | None) -> Spec:
    return SPEC.model_copy(update={"tracking": Tracking(uri=uri)})


def test_the_specifications_uri_wins_over_the_environment_and_that_over_the_home_folder(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(home) == home.mlflow_url
    assert tracking_uri(home, tracked_at(None)) == home.mlflow_url
    assert tracking_server(tracked_at(None)) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert tracking_uri(home) == "http://environment"
    assert tracking_uri(home, tracked_at(None)) == tracking_server() == "http://environment"
    assert tracking_uri(home, tracked_at("http://specification")) == "http://specification"


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_uri_counts_as_unset(home: Home, monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", blank)
    assert tracking_server() is None
    assert tracking_uri(home) == tracking_uri(home, tracked_at(blank)) == home.mlflow_url
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " http://environment\n")
    assert tracking_uri(home, tracked_at(blank)) == "http://environment"


@pytest.mark.parametrize(
    ("recorded", "stored"),
    [(0.1, 0.1), (0.1, 0.1 + 1e-16), (math.inf, LARGEST), (-math.inf, -LARGEST), (math.nan, math.nan), (0.0, 0.0)],
)
def test_a_value_is_recognised_as_mlflow_stores_it(recorded: float, stored: float) -> None:
    assert same(recorded, stored)


@pytest.mark.parametrize(("recorded", "stored"), [(0.1, 0.2), (math.inf, -LARGEST), (math.nan, 0.0), (0.0, 1e-9)])
def test_another_value_is_a_difference(recorded: float, stored: float) -> None:
    assert not same(recorded, stored)


def test_an_epochs_metrics_are_its_numbers_without_the_epoch() -> None:
    values = numbers(EpochMetrics(epoch=3, val_accuracy=0.5, seconds=2.0))
    assert values["val_accuracy"] == 0.5
    assert values["seconds"] == 2.0
    assert "epoch" not in values
    assert all(isinstance(value, float) for value in values.values())


def test_timestamps_are_milliseconds() -> None:
    assert ms(1.5) == 1500
    assert ms(None) is None
