"""Retrained models in MLflow, in the home folder and on a server."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.reader import load_study
from hpo.ledger.records import Repeat
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.tracking.mirror import Mirror
from hpo.tracking.upkeep.naming import STUDY_TAG
from tests.conftest import synthetic_spec
from tests.support.mlflow_runs import points, runs
from trainers.api import EpochMetrics


@pytest.fixture
def searched(home: Home) -> Home:
    """A home folder with a study of three complete trials; the last one is the best."""
    settings = {
        "trainer": "trainers.finetune:train",
        "data": {"name": "shapes", "train_limit": 160, "validation_limit": 60},
        "model": {"name": "test_efficientnet", "pretrained": False},
        "train": {"epochs": 2, "batch_size": 40, "progressive": {"stages": 1, "size": {"start": 32, "end": 32}}},
        "space": {"train.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}},
        "enqueue": [],
        "extra": {},
    }
    ledger = Ledger.create(open_storage(home.ledger_url), synthetic_spec("modelled", **settings), {"identity": "one"})
    for value in (0.5, 0.6, 0.7):
        trial = ledger.ask(
            lambda asked: ({"train.lr": asked.suggest_float("train.lr", 1e-4, 1e-2, log=True)}, "random"), int
        )
        for epoch in (1, 2):
            ledger.record(trial.number, EpochMetrics(epoch=epoch, val_accuracy=value * epoch / 2), None)
        ledger.finish(trial.number, Outcome(Ending.COMPLETE, "trained for all 2 epochs"))
    ledger.close()
    return home


def retrain(home: Home, trial: int, folder: Path, *options: str) -> str:
    chosen = folder.with_suffix(".yaml")
    for command in (
        ["export", "modelled", "--trial", str(trial), "-o", str(chosen)],
        ["retrain", str(chosen), "-o", str(folder), "--device", "cpu", *options],
    ):
        done = CliRunner().invoke(app, [*command, "--home", str(home.path)])
        assert done.exit_code == 0, done.output
    return done.output


def test_a_retrained_model_is_registered_and_loads_back(
    searched: Home, tmp_path: Path, server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the server that MLFLOW_TRACKING_URI names; loading the model must not need pickle."""
    uri, _ = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    client = MlflowClient(tracking_uri=uri)
    assert "in MLflow: models:/modelled@champion" in retrain(searched, 2, tmp_path / "best", "--seeds", "2")
    assert "s3cret" not in retrain(searched, 0, tmp_path / "other")

    versions = {one.tags["hpo.trial"]: one for one in client.search_model_versions("name = 'modelled'")}
    assert set(versions) == {"0", "2"}
    champion = client.get_model_version_by_alias("modelled", "champion")
    assert champion.version == versions["2"].version, "the model of another trial is not the champion"
    run = client.get_run(str(champion.run_id))
    assert run.data.tags[STUDY_TAG] == "modelled"
    assert run.info.status == "FINISHED"
    summary = json.loads((tmp_path / "best" / "summary.json").read_text())
    assert run.data.metrics["test_accuracy"] == pytest.approx(summary["test_accuracy"])
    assert [value for _, value in points(client, run.info.run_id, "test_accuracy_of_seed")] == pytest.approx(
        summary["test_accuracies"]
    )

    import mlflow

    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model("models:/modelled@champion")
    finally:
        mlflow.set_tracking_uri(None)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # that call has deleted it
    assert loaded.metadata.signature is not None
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 3, 32, 32)
    assert loaded.metadata.signature.outputs.input_names() == loaded.metadata.metadata["label_names"]
    assert loaded.metadata.saved_input_example_info is not None
    assert loaded.metadata.metadata["label_names"][0] == "disc"
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    net = timm.create_model(f"local-dir:{tmp_path / 'best' / 'seed-0'}", pretrained=True).eval()
    with torch.inference_mode():
        expected = net(images).numpy()
    assert np.abs(loaded.predict(images.numpy()) - expected).max() < 1e-4

    study = load_study(open_storage(searched.ledger_url), "modelled")
    mirror = Mirror(study, searched)
    mirror.models.sync(study)
    assert len(client.search_model_versions("name = 'modelled'")) == 2, "nothing is created twice"
    client.set_registered_model_alias("modelled", "champion", versions["0"].version)
    client.delete_run(str(versions["0"].run_id))
    damaged = Mirror(study, searched)
    assert list(damaged.models.differences(study)) == [
        "retraining 1 (trial 0) has no run",
        f"the alias champion of model modelled does not point to version {champion.version}",
    ]
    damaged.models.repair(study)
    assert list(Mirror(study, searched).models.differences(study)) == []


def test_the_champion_is_the_configuration_that_a_confirmation_chose(searched: Home, tmp_path: Path) -> None:
    """Trial 2, the best of the search, is the champion until new seeds show that trial 0 is better."""
    results = {"test_accuracy": 0.5, "test_accuracy_std": None, "test_accuracies": [0.5], "seeds": [0]}
    entries = [{"trial": number, "output": str(tmp_path / str(number)), **results} for number in (0, 2)]
    entries.append({**entries[-1], "changes": {"train.epochs": "3"}})  # hpo retrain modelled train.epochs=3
    found = load_study(open_storage(searched.ledger_url), "modelled")
    study = dataclasses.replace(found, info={**found.info, "retrainings": entries})
    assert not Mirror(study, searched).models.sync(study), "no model is registered yet"
    client = MlflowClient(tracking_uri=searched.mlflow_url)
    client.create_registered_model("modelled")
    for run in runs(client, "modelled"):
        if number := run.data.tags.get("hpo.retrained_trial"):
            client.create_model_version("modelled", run.info.artifact_uri, run.info.run_id, {"hpo.trial": number})

    assert Mirror(study, searched).models.sync(study)
    champion = client.get_model_version_by_alias("modelled", "champion")
    assert champion.tags["hpo.trial"] == "2"
    changed = {
        run.info.run_id: run.data.tags["hpo.changes"]
        for run in runs(client, "modelled")
        if "hpo.changes" in run.data.tags
    }
    assert list(changed.values()) == ["train.epochs=3"]
    assert champion.run_id not in changed, "a training with other settings is not the trial's"
    repeats = [
        dataclasses.replace(study.trials[like], values=study.trials[number].values, repeat=repeat)
        for number, like in ((0, 2), (2, 0))
        for repeat in (Repeat(number, seed, seed, baseline=False) for seed in (0, 1))
    ]
    confirmed = dataclasses.replace(study, repeats=tuple(repeats))
    (difference,) = Mirror(confirmed, searched).models.differences(confirmed)
    assert "the alias champion of model modelled does not point to version" in difference
    assert Mirror(confirmed, searched).models.sync(confirmed)
    assert client.get_model_version_by_alias("modelled", "champion").tags["hpo.trial"] == "0"


def test_a_retraining_succeeds_while_the_tracking_server_is_down(
    searched: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    said = retrain(searched, 2, tmp_path / "best")
    assert "warning: MLflow does not have the model yet" in said
    assert "Write it with: hpo doctor modelled" in said
    assert "test accuracy" in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    study = load_study(open_storage(searched.ledger_url), "modelled")
    mirror = Mirror(study, searched)
    assert "retraining 0 (trial 2) has no run" in mirror.differences(study)
    mirror.repair(study)
    client = MlflowClient(tracking_uri=searched.mlflow_url)
    assert client.get_model_version_by_alias("modelled", "champion").tags["hpo.trial"] == "2"
