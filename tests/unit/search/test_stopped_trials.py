"""What a trial that a person stopped says to the search: what it had shown at its rungs, else nothing."""

from __future__ import annotations

import dataclasses

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from hpo.ledger.outcome import MLFLOW_STATUS, Ending, Outcome
from hpo.ledger.records import RungDecision
from hpo.search.trial_views import of_frozen, of_record, without_accidents
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create
from trainers.api import EpochMetrics


@pytest.mark.parametrize("judged", [True, False])
def test_optuna_the_records_and_the_samplers_say_the_same_of_a_stopped_trial(judged: bool) -> None:
    ledger = create(InMemoryStorage(), synthetic_spec("stopped"))
    trial = ledger.ask(lambda asked: ({"extra.quality": asked.suggest_float("extra.quality", 0, 1)}, "random"), int)
    decision = RungDecision(rung=1.0, value=0.25, cutoff=None, order=0, keep=True) if judged else None
    ledger.record(trial.number, EpochMetrics(epoch=1, val_accuracy=0.25), decision)
    ended = ledger.finish(trial.number, Outcome(Ending.STOPPED, "stopped by ann@login1 after epoch 1"))
    (frozen,) = ledger.searched.get_trials(deepcopy=False)
    assert frozen.state is (TrialState.PRUNED if judged else TrialState.FAIL)
    assert dataclasses.asdict(of_frozen(frozen)) == dataclasses.asdict(of_record(ended))
    (seen,) = without_accidents([of_record(ended)])
    assert seen.state is (TrialState.PRUNED if judged else TrialState.RUNNING)
    assert ended.status == "stopped"
    assert ended.pruned_at is None, "ASHA did not stop it, so the audit does not count it"
    assert MLFLOW_STATUS[Ending.STOPPED] == "KILLED"
