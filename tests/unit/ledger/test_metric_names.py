"""What Optuna's own tools call the values of a study."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
import pytest

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
