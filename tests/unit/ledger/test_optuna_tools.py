"""What Optuna's own tools show of a study, and what they may do to it."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
import pytest

from hpo.errors import InfrastructureError
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.spec.objectives import OwnObjective
from tests.conftest import synthetic_spec


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


def test_a_driver_is_told_that_its_study_was_deleted(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db")
    ledger = Ledger.create(storage, synthetic_spec("gone"), {})
    optuna.delete_study(study_name="gone", storage=open_storage(f"sqlite:///{tmp_path}/optuna.db"))
    with pytest.raises(InfrastructureError, match="the study was deleted from the ledger while it ran"):
        ledger.heartbeat()
