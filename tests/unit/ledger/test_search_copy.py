"""The trials in a driver's memory that samplers see: small, and with all that samplers read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from hpo.driver.conductor import Conductor
from hpo.ledger import attributes
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.trial_views import of_frozen
from hpo.spec.objectives import objectives
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, reopen, steps
from trainers.api import EpochMetrics

EPOCHS = 30


def assert_same_to_samplers(ledger: Ledger, url: str, spec: Spec) -> None:
    """Compare what the memory and the database say of all trials."""
    stored = optuna.load_study(study_name=spec.study, storage=open_storage(url)).trials
    named = objectives(spec.objectives)
    in_memory = ledger.searched.trials
    assert [of_frozen(trial, named) for trial in in_memory] == [of_frozen(trial, named) for trial in stored]
    assert [trial.state for trial in in_memory] == [trial.state for trial in stored]


@pytest.mark.parametrize("names", [["val_accuracy"], ["val_accuracy", "params"]])
def test_samplers_see_in_memory_what_they_would_see_in_the_database(tmp_path: Path, names: list[str]) -> None:
    """While a study runs, and after its ledger was opened again; failures of the machine included."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    spec = synthetic_spec("seen", extra={"light": True, "params": 7}, budget={"trials": 6}, objectives=names)
    ledger = create(open_storage(url), spec)
    conductor = Conductor(ledger)
    for at, _ in enumerate(steps(conductor, tmp_path)):
        if at == 1:
            conductor.on_failure(1, "the disk is full")
        assert_same_to_samplers(ledger, url, spec)
    conductor.close()
    assert any(trial.rungs for trial in ledger.trials)
    again = reopen(open_storage(url), spec)
    assert again.trials == ledger.trials
    assert_same_to_samplers(again, url, spec)


def test_the_copy_for_samplers_does_not_grow_with_what_is_reported(tmp_path: Path) -> None:
    """Of an epoch that decides no rung it keeps the value alone: a driver holds hundreds of thousands of them."""
    storage = open_storage(f"sqlite:///{tmp_path / 'ledger.db'}")
    spec = synthetic_spec("long", asha={"enabled": False}, train={"epochs": EPOCHS}, budget={"trials": 2}, enqueue=[])
    conductor = Conductor(create(storage, spec))
    sizes = list(_sizes(conductor))
    conductor.close()
    assert sizes[0] == sizes[-1]
    (trial, *_) = reopen(storage, spec).searched.trials
    assert len(trial.intermediate_values) == EPOCHS - 1
    assert attributes.stored_epochs(attributes.of_trial(trial)) == []
    (full, *_) = storage.get_all_trials(storage.get_study_id_from_name("long"))
    assert len(attributes.stored_epochs(attributes.of_trial(full))) == EPOCHS - 1


def _sizes(conductor: Conductor) -> Iterator[int]:
    assignment = conductor.next_trial()
    assert assignment is not None
    for epoch in range(1, EPOCHS):
        conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, val_accuracy=0.5, train_loss=epoch / 7))
        yield len(json.dumps(attributes.of_trial(conductor.ledger.searched.trials[0])))
