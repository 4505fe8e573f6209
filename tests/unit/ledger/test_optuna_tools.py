"""What Optuna's own tools show of a study, and what they may do to it."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
import pytest

from hpo.driver.conductor import Conductor
from hpo.errors import InfrastructureError
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.spec.objectives import OwnObjective
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, steps


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (("val_accuracy",), ["val_accuracy"]),
        (("val_accuracy", "params"), ["val_accuracy", "params"]),
        ((OwnObjective(metric="val_loss", direction="minimize"),), ["-val_loss"]),
    ],
)
def test_the_values_of_a_study_are_named_after_its_objectives(
    tmp_path: Path, chosen: tuple[object, ...], names: list[str]
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ledger.create(storage, synthetic_spec("named").model_copy(update={"objectives": chosen}), {}).close()
    assert optuna.load_study(study_name="named", storage=storage).metric_names == names


def test_tools_that_list_user_attributes_show_how_a_trial_ended_and_no_record_of_each_epoch(tmp_path: Path) -> None:
    """In each way of writing: of this package and, through Optuna's own interface, of an unknown storage."""
    spec = synthetic_spec("listed", budget={"trials": 3}, train={"epochs": 4})
    for storage in (open_storage(f"sqlite:///{tmp_path}/optuna.db"), optuna.storages.InMemoryStorage()):
        ledger = create(storage, spec)
        conductor = Conductor(ledger)
        for _ in steps(conductor, tmp_path):
            ledger.link_run(0, "a run")
        conductor.close()
        stored = optuna.load_study(study_name="listed", storage=storage).trials
        assert [set(trial.user_attrs) for trial in stored] == [{"outcome", "enqueued", "origin"}, *[{"outcome"}] * 2]
        assert load_study(storage, "listed").trials == ledger.trials
        assert ledger.trial(0).mlflow_run_id == "a run"


def test_a_driver_is_told_that_its_study_was_deleted(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db")
    ledger = Ledger.create(storage, synthetic_spec("gone"), {})
    optuna.delete_study(study_name="gone", storage=open_storage(f"sqlite:///{tmp_path}/optuna.db"))
    with pytest.raises(InfrastructureError, match="the study was deleted from the ledger while it ran"):
        ledger.heartbeat()
