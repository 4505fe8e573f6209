"""Pruned trials that are taken up again, through real Ray, Optuna on SQLite and MLflow on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.driver import run as launch
from hpo.home import Home
from hpo.ledger.storage import open_storage
from hpo.search.asha import replay
from hpo.validation.loader import parse_spec
from tests.conftest import synthetic_spec
from tests.integration.test_study import assert_mlflow_agrees, reason, runs_by_trial
from tests.support.in_process_driver import told
from tests.support.views import RecordingView

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

REAL = """\
study: landed
data: {name: shapes, train_limit: 96, validation_limit: 60}
model: {name: test_efficientnet, pretrained: false}
train:
  epochs: 4
  batch_size: 16
  progressive: {stages: 1, size: {start: 24, end: 24}}
space:
  train.lr: {type: float, low: 1e-4, high: 3e-2, log: true}
  train.weight_decay: {type: float, low: 1e-4, high: 1e-1, log: true}
enqueue:
  - {train.lr: 1e-3, train.weight_decay: 1e-2}
asha: {reduction_factor: 3, resource: epochs}
search: {policy: gp, landing: true}
concurrency: 1
budget: {trials: 8}
"""


def test_a_trial_that_was_taken_up_is_one_trial_and_one_run(home: Home, tmp_path: Path) -> None:
    (journal := tmp_path / "journal").mkdir()
    spec = synthetic_spec(
        "landing",
        extra={"seconds": 0.0, "journal": str(journal)},
        train={"epochs": 4, "progressive": {"stages": 1}},
        search={"policy": "gp", "landing": True},
        space={
            "extra.quality": {"type": "float", "low": 0.0, "high": 1.0},
            "extra.speed": {"type": "float", "low": 0.1, "high": 3.0},
        },
        enqueue=[{"extra.quality": 0.2, "extra.speed": 3.0}],
        budget={"trials": 7},
        concurrency=1,
    )
    view = RecordingView()
    study = launch.run(spec, home, view=view)
    again = [trial for trial in study.trials if trial.taken_up]
    assert again, "the only worker takes up a trial that promises more than a new one"
    for trial in again:
        assert trial.complete
        assert "ASHA had stopped it, and landing took it up after epoch 1" in reason(trial)
        trained = (journal / f"{trial.number:05d}").read_text().splitlines()
        assert [line.split()[0] for line in trained] == list("1234"), "no epoch was trained twice"
    assert study.count("pruned") > 0, "the others stay pruned"
    assert replay([(trial.number, rung) for trial in study.trials for rung in trial.rungs], 2) == []
    told(open_storage(home.ledger_url), study)
    assert_mlflow_agrees(study, home)
    ends = [run.info.end_time for run in runs_by_trial(study, home).values()]
    assert all(ends), "no run stays open"
    for trial in study.trials:
        kept = sorted(path.name for path in home.study("landing").glob(f"checkpoints/{trial.number:05d}/*"))
        assert bool(kept) == trial.complete, "checkpoints of the others are deleted with the end of the study"


def test_a_real_network_trains_on_from_the_checkpoint_of_its_pruned_trial(home: Home) -> None:
    study = launch.run(parse_spec(REAL, "landed.yaml"), home, view=RecordingView())
    again = [trial for trial in study.trials if trial.taken_up]
    assert again
    for trial in again:
        assert trial.complete
        (after,) = trial.taken_up
        first, second = trial.attempts
        assert second.resumed_after == after == trial.metrics[after - 1].epoch
        assert all(epoch.recorded > second.started for epoch in trial.epochs[after:])
        assert first.ended is not None
    told(open_storage(home.ledger_url), study)
    assert_mlflow_agrees(study, home)
