"""The ledger records every test-set evaluation before it begins: real trainings, killed at critical moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.export.retrain import Retraining
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.best import training
from hpo.spec.training import Training
from tests.conftest import synthetic_spec
from trainers import data
from trainers.api import EpochMetrics


class Killed(BaseException):
    """Ends the process at once."""


@pytest.fixture
def chosen(home: Home) -> Training:
    """The best configuration of a small study in the home folder."""
    settings: dict[str, Any] = {
        "trainer": "trainers.finetune:train",
        "data": {"name": "shapes", "train_limit": 80, "validation_limit": 40},
        "model": {"name": "test_efficientnet", "pretrained": False},
        "train": {"epochs": 1, "batch_size": 40, "progressive": {"stages": 1, "size": {"start": 32, "end": 32}}},
        "space": {"train.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}},
        "enqueue": [],
        "extra": {},
        "tracking": {"enabled": False},
    }
    ledger = Ledger.create(open_storage(home.ledger_url), synthetic_spec("evaluated", **settings), {"identity": "one"})
    trial = ledger.ask(
        lambda asked: ({"train.lr": asked.suggest_float("train.lr", 1e-4, 1e-2, log=True)}, "random"), int
    )
    ledger.record(trial.number, EpochMetrics(epoch=1, val_accuracy=0.5), None)
    ledger.finish(trial.number, Outcome(Ending.COMPLETE, "trained for its epoch"))
    ledger.close()
    return training(load_study(open_storage(home.ledger_url), "evaluated"))


def evaluations(home: Home) -> list[tuple[int, bool]]:
    """The seed of each test-set evaluation and whether its accuracy is known, the oldest first."""
    entries = load_study(open_storage(home.ledger_url), "evaluated").info["test_set_evaluations"]
    entries.sort(key=lambda entry: entry["opened"])
    return [(entry["seed"], entry["test_accuracy"] is not None) for entry in entries]


def test_a_killed_retraining_counts_from_its_first_test_set_evaluation(
    home: Home, chosen: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next command warns before it trains and beside its result."""

    def retrain(folder: str, killed_seed: int | None = None) -> None:
        def on_epoch(seed: int, metrics: EpochMetrics) -> None:
            if seed == killed_seed:
                raise Killed

        Retraining(chosen, home, tmp_path / folder).run((0, 1), "cpu", on_epoch)

    def evaluations_before() -> int:
        retraining = Retraining(chosen, home, tmp_path)
        assert retraining.study == "evaluated"
        return retraining.evaluations_before

    with pytest.raises(Killed):
        retrain("first", killed_seed=0)
    assert evaluations(home) == []
    assert evaluations_before() == 0, "it was killed before the first evaluation"

    with pytest.raises(Killed):
        retrain("first", killed_seed=1)
    assert evaluations(home) == [(0, True)], "only the model of the first seed was evaluated"
    assert evaluations_before() == 1

    def die(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(data, "open_test_split", die)
        with pytest.raises(Killed):
            retrain("second")
    assert evaluations(home) == [(0, True), (0, False)]
    assert evaluations_before() == 2

    file = tmp_path / "best.yaml"
    file.write_text(chosen.to_yaml())
    command = ["retrain", str(file), "--seeds", "2", "--device", "cpu", "-o", str(tmp_path / "third")]
    done = CliRunner().invoke(app, [*command, "--home", str(home.path)])
    assert done.exit_code == 0, done.output
    before, epoch, after = done.output.partition("seed 0 epoch 1/1")
    assert epoch
    for part in (before, after):
        assert "the test set was evaluated 2 times before for this configuration" in part
    assert evaluations(home)[2:] == [(0, True), (1, True)]
    assert evaluations_before() == 3, "one for each command, not for each seed"
    (entry,) = load_study(open_storage(home.ledger_url), "evaluated").info["retrainings"]
    assert entry["seeds"] == [0, 1]
