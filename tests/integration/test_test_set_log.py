"""Every look at the test set is in the ledger before it is taken: real trainings, cut off where it matters."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.export.retrain import retrain
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from hpo.ledger.test_set_log import Openings
from hpo.ledger.writer import Ledger
from hpo.results.best import training
from hpo.spec.training import Training
from tests.conftest import synthetic_spec
from trainers import data
from trainers.api import EpochMetrics


class Killed(BaseException):
    """What ends a process where it stands."""


@pytest.fixture
def chosen(home: Home) -> Training:
    """The best configuration of a study in the home folder, a miniature."""
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
    ledger = Ledger.create(open_storage(home.ledger_url), synthetic_spec("looked", **settings), {"identity": "one"})
    trial = ledger.ask(
        lambda asked: ({"train.lr": asked.suggest_float("train.lr", 1e-4, 1e-2, log=True)}, "random"), int
    )
    ledger.record(trial.number, EpochMetrics(epoch=1, val_accuracy=0.5), None)
    ledger.finish(trial.number, Outcome(Ending.COMPLETE, "trained for its epoch"))
    ledger.close()
    return training(load_study(open_storage(home.ledger_url), "looked"))


def looks(home: Home) -> list[tuple[int, bool]]:
    """(Seed, whether its accuracy is known) of each look, the oldest first."""
    found = load_study(open_storage(home.ledger_url), "looked").info["openings"]
    return [(one["seed"], one["test_accuracy"] is not None) for one in sorted(found, key=lambda one: one["opened"])]


def test_what_is_cut_off_counts_from_its_first_look(
    home: Home, chosen: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who looks again is told before the work and after."""

    def cut(at: int, seed: int, metrics: EpochMetrics) -> None:
        if seed == at:
            raise Killed

    def again(folder: str, at: int = 9) -> None:
        retrain(
            chosen,
            home,
            tmp_path / folder,
            seeds=(0, 1),
            device="cpu",
            on_epoch=functools.partial(cut, at),
            openings=Openings(chosen, home),
        )

    with pytest.raises(Killed):
        again("first", at=0)
    assert looks(home) == []
    assert Openings(chosen, home).before == 0, "it was ended before it looked"

    with pytest.raises(Killed):
        again("first", at=1)
    assert looks(home) == [(0, True)], "the second seed has not looked, but the first has"
    assert Openings(chosen, home).before == 1

    def die(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(data, "open_test_split", die)
        with pytest.raises(Killed):
            again("second")
    assert looks(home) == [(0, True), (0, False)]
    assert Openings(chosen, home).before == 2

    file = tmp_path / "best.yaml"
    file.write_text(chosen.to_yaml())
    command = ["retrain", str(file), "--seeds", "2", "--device", "cpu", "-o", str(tmp_path / "third")]
    done = CliRunner().invoke(app, [*command, "--home", str(home.path)])
    assert done.exit_code == 0, done.output
    before, told, after = done.output.partition("seed 0 epoch 1/1")
    assert told
    for part in (before, after):
        assert "the test set was opened for this configuration 2 times before" in part
    assert looks(home)[2:] == [(0, True), (1, True)]
    assert Openings(chosen, home).before == 3, "one for each command, not for each seed"
    (entry,) = load_study(open_storage(home.ledger_url), "looked").info["retrainings"]
    assert entry["seeds"] == [0, 1]
