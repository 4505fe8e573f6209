"""A store of files that refuses costs no record of MLflow, and is told once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Param

from hpo.cli import doctor
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.tracking import mirror as module
from hpo.tracking.mirror import Mirror
from hpo.tracking.places import RunFiles
from hpo.tracking.runs import make_store
from hpo.tracking.tracker import Tracker
from hpo.tracking.upkeep.naming import STUDY_TAG
from tests.conftest import synthetic_spec
from trainers.api import EpochMetrics


def figures(study: StudyRecord) -> dict[str, bytes]:
    """One plot."""
    return {"plot.svg": b"<svg/>"}


@pytest.fixture
def recorded(home: Home) -> Ledger:
    """A study with a complete, a pruned and a failed trial; MLflow's database is there."""
    spec = synthetic_spec("filed", train={"epochs": 2, "progressive": {"stages": 1}})
    ledger = Ledger.create(open_storage(home.ledger_url), spec, {"identity": "one", "created": 1.0})
    for number, ending in enumerate((Ending.COMPLETE, Ending.PRUNED, Ending.FAILED)):
        ledger.ask(lambda trial: ({"q": trial.suggest_float("extra.quality", 0, 1)}, "random"), lambda number: number)
        for epoch in range(1, 3 if ending is Ending.COMPLETE else 2):
            ledger.record(number, EpochMetrics(epoch=epoch, val_accuracy=0.1 * epoch, val_loss=1.0), None)
        ledger.finish(number, Outcome(ending, "why"))
    ledger.close()
    make_store(home)
    return ledger


def written(home: Home) -> list[tuple[object, ...]]:
    """Everything that MLflow holds of the study, deleted runs too."""
    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiment = client.get_experiment_by_name("filed").experiment_id
    found = client.search_runs([experiment], run_view_type=3)
    return sorted(
        (run.info.run_id, run.info.status, run.info.lifecycle_stage, str(run.data.to_dictionary())) for run in found
    )


def said(home: Home) -> list[str]:
    """What `hpo doctor` says of the study."""
    return [f"{finding.state} {finding.text}" for finding in doctor.compare(home, "filed", figures)]


@pytest.mark.parametrize("store", ["s3://bucket/x", "no folder"])
def test_all_records_arrive_where_the_store_of_files_cannot_be_written(
    home: Home, tmp_path: Path, recorded: Ledger, store: str
) -> None:
    """S3 without its library, and a folder that cannot be made: one message at the end, and one from the doctor."""
    (tmp_path / "file").touch()
    location = store if "://" in store else f"file://{tmp_path}/file/x"
    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiment = client.create_experiment("filed", artifact_location=location)
    tracker = Tracker.start(recorded.study, home, figures=figures)
    told = tracker.close(recorded.study)
    assert told is not None
    assert told.count("MLflow has no files") == 1
    assert "hpo doctor filed" in told
    assert "\n" not in told
    link(recorded, tracker)

    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "filed": "FINISHED",
        "trial-00000": "FINISHED",
        "trial-00001": "KILLED",
        "trial-00002": "FAILED",
    }
    for number, epochs in enumerate((2, 1, 1)):
        run = runs[f"trial-{number:05d}"]
        assert run.data.params.keys() == {"extra.quality"}
        assert run.data.tags["hpo.reason"] == "why"
        assert len(client.get_metric_history(run.info.run_id, "val_accuracy")) == epochs
    assert "incumbent/val_accuracy" in runs["filed"].data.metrics
    assert runs["filed"].data.tags["mlflow.note.content"]

    before = written(home)
    first, second = said(home), said(home)
    assert first == second
    assert [line.partition(" (")[0] for line in first if line.startswith("failed MLflow has no files")] != []
    assert [line.split()[0] for line in first] == ["failed", "ok"]
    assert written(home) == before


def test_the_doctor_writes_the_files_once_their_store_takes_them(home: Home, tmp_path: Path, recorded: Ledger) -> None:
    (tmp_path / "file").touch()
    client = MlflowClient(tracking_uri=home.mlflow_url)
    client.create_experiment("filed", artifact_location=f"file://{tmp_path}/file/x")
    tracker = Tracker.start(recorded.study, home, figures=figures)
    tracker.close(recorded.study)
    link(recorded, tracker)
    assert said(home)[0].startswith("failed MLflow has no files")
    (tmp_path / "file").unlink()
    assert "the file specification.yaml of the study run is missing" in said(home)[0]
    assert said(home) == ["ok all 3 trials of filed agree with the ledger"]
    assert {path.name for path in (tmp_path / "file").rglob("*.*")} >= {"specification.yaml", "best.yaml", "plot.svg"}


def link(ledger: Ledger, tracker: Tracker) -> None:
    """Tell the ledger which runs its trials have, as the driver does."""
    for number, run in tracker.linked():
        ledger.link_run(number, run)
    ledger.write_notes()


def test_a_store_that_refused_once_is_asked_no_more() -> None:
    calls: list[int] = []

    def refuse() -> None:
        calls.append(1)
        raise PermissionError("no")

    files = RunFiles()
    assert not files.attempt(refuse)
    assert not files.attempt(refuse)
    assert len(calls) == 1
    files.retry()
    assert files.usable
    assert files.attempt(lambda: calls.append(2))


@pytest.mark.parametrize("text", ["x" * 20_000, "a\0b", "\udcff", "long " + "ü" * 9_000])
def test_texts_that_mlflow_cannot_hold_agree_with_what_it_got(home: Home, recorded: Ledger, text: str) -> None:
    """Descriptions, parameters and reasons: what is compared is what was sent, so the doctor finds nothing."""
    key = f"extra.{'k' * 300}"
    spec = recorded.spec.model_copy(update={"description": text})
    odd = {"extra.text": text, key: 1.0} | {f"extra.p{number}": number for number in range(150)}
    trials = tuple(dataclasses.replace(one, values=dict(one.values) | odd) for one in recorded.trials)
    trials = tuple(
        dataclasses.replace(one, outcome=dataclasses.replace(one.outcome, reason=text)) for one in trials if one.outcome
    )
    study = dataclasses.replace(recorded.study, spec=spec, trials=trials)
    mirror = Mirror(study, home)
    for one in trials:
        mirror.sync(one)
    mirror.finish(study)
    left = Mirror(study, home).differences(study)
    assert [line for line in left if "ledger does not know" not in line] == []


def test_a_repair_that_cannot_agree_is_not_repeated(
    home: Home, recorded: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An MLflow that stores other values than it is sent: the second doctor writes nothing, a new difference counts."""
    expected = module.parameters
    monkeypatch.setattr(module, "parameters", lambda values: expected(values) | {"extra.other": "sent"})
    log = MlflowClient.log_batch

    def changing(client: MlflowClient, run: str, *rest: object, **named: object) -> object:
        named["params"] = [Param(one.key, one.value.upper()) for one in named.get("params") or ()]  # type: ignore[attr-defined]
        return log(client, run, *rest, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", changing)
    first = said(home)
    assert any("could not be repaired: trial 0 has extra.other = SENT, not sent" in line for line in first)
    before = written(home)
    second = said(home)
    assert any("the last repair left the same differences" in line for line in second)
    assert written(home) == before
    MlflowClient(tracking_uri=home.mlflow_url).set_terminated(study_run(home), "FAILED")
    assert any("the study run is FAILED" in line for line in said(home))
    assert not any("the study run is FAILED" in line for line in said(home))


def study_run(home: Home) -> str:
    """The id of the study run."""
    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiment = client.get_experiment_by_name("filed").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`{STUDY_TAG}` = 'filed' and attributes.run_name = 'filed'")
    return str(run.info.run_id)


def test_an_epoch_may_have_more_metrics_than_a_call_to_mlflow(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow is away after the first call, in the middle of the first epoch; the next driver sends the rest."""
    objective = {"metric": "rmse", "direction": "minimize"}
    spec = synthetic_spec("many", train={"epochs": 3, "progressive": {"stages": 1}}, objectives=[objective])
    ledger = Ledger.create(open_storage(home.ledger_url), spec, {"identity": "one", "created": 1.0})
    ledger.ask(lambda trial: ({"q": trial.suggest_float("extra.quality", 0, 1)}, "random"), lambda number: number)
    for epoch in (1, 2, 3):
        own = {"rmse": 1 / epoch} | {f"error_{number}": float(number) for number in range(1100)}
        trial = ledger.record(0, EpochMetrics(epoch=epoch, own=own), None)
    make_store(home)
    log, calls = MlflowClient.log_batch, list[int]()

    def once(self: MlflowClient, run_id: str, metrics: Any = (), *rest: Any, **options: Any) -> Any:
        if metrics:
            calls.append(len(metrics))
            if len(calls) == 2:
                raise ConnectionError("away")
        return log(self, run_id, metrics, *rest, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", once)
    with pytest.raises(ConnectionError):
        Mirror(ledger.study, home).sync(trial)
    mirror = Mirror(ledger.study, home)
    mirror.sync(trial)
    (run,) = mirror.store.runs.trials[0]
    for name in ("rmse", "error_0", "error_1099"):
        points = mirror.store.client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in points] == [1, 2, 3]
    assert max(calls) < 1000
