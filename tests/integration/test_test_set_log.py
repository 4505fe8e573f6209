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
from hpo.ledger.test_set_log import TestSetLog, record_retraining
from hpo.ledger.writer import Ledger
from hpo.results.best import training
from hpo.spec.training import Training
from hpo.validation.loader import parse_training
from reports.analysis.answer import answer
from reports.page.sentences import retrained_otherwise
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


def logged(training: Training, home: Home, accuracy: float) -> None:
    """A retraining of one seed, without the training."""
    log = TestSetLog(training, home)
    log.begin(0, home.path)
    log.end(0, accuracy)
    results = {"test_accuracy": accuracy, "test_accuracies": [accuracy], "test_accuracy_std": None, "seeds": [0]}
    log.retrained(results | {"output": str(home.path)})


def test_a_retraining_with_changed_settings_is_not_the_trials(home: Home, chosen: Training) -> None:
    changed = parse_training(chosen.to_yaml(), "best.yaml", ["train.epochs=2", "data.train_limit=60"])
    logged(changed, home, 0.9)
    study = load_study(open_storage(home.ledger_url), "evaluated")
    (entry,) = study.info["retrainings"]
    assert entry["changes"] == {"train.epochs": "2", "data.train_limit": "60"}
    assert answer(study).test is None, "the report shows no test accuracy of the trial"
    assert retrained_otherwise([study]) == (
        "Trial 0 of evaluated was also retrained as another configuration than the one that the study measured "
        "(data.train_limit=60, train.epochs=2): test accuracy 90.00 %."
    )
    (said,) = Retraining(changed, home, home.path).remarks
    assert said.startswith("data.train_limit=60, train.epochs=2 is not what trial 0 has")

    original = Retraining(chosen, home, home.path)
    assert (original.evaluations_before, original.evaluations_of_variants, original.remarks) == (0, 1, [])
    logged(chosen, home, 0.6)
    logged(changed, home, 0.95)
    found = answer(load_study(open_storage(home.ledger_url), "evaluated")).test
    assert found is not None
    assert found.accuracy == 0.6


def test_settings_that_change_only_the_place_or_the_speed_leave_a_training_the_trials(
    home: Home, chosen: Training, tmp_path: Path
) -> None:
    overrides = [f"data.root={tmp_path}", "data.download=true", "train.eval_batch_size=7", "train.checkpoint_every=3"]
    same = parse_training(chosen.to_yaml(), "best.yaml", [*overrides, "train.channels_last=false"])
    assert TestSetLog(same, home).changes == {}


def test_an_entry_of_an_earlier_version_counts_as_the_trials(home: Home, chosen: Training) -> None:
    record_retraining(open_storage(home.ledger_url), "evaluated", {"trial": 0, "test_accuracy": 0.5})
    assert Retraining(chosen, home, home.path).evaluations_before == 1
    found = answer(load_study(open_storage(home.ledger_url), "evaluated")).test
    assert found is not None
    assert found.accuracy == 0.5


def test_a_retraining_without_the_home_folder_of_its_study_says_that_nothing_is_recorded(
    chosen: Training, tmp_path: Path
) -> None:
    elsewhere = Retraining(chosen, Home.at(tmp_path / "elsewhere"), tmp_path)
    (said,) = elsewhere.remarks
    assert "is not recorded; name the home folder of the study with --home" in said
    assert elsewhere.study is None
