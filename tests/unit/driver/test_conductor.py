"""Which reports of a trainer are acceptable."""

from __future__ import annotations

import dataclasses

import pytest
from optuna.storages import InMemoryStorage

from hpo.driver.conductor import Conductor
from hpo.driver.decisions.reports import fault
from hpo.driver.events import Event
from hpo.ledger.reader import load_study
from hpo.ledger.records import EpochRecord, TrialRecord
from hpo.results.gpu_hours import gpu_hours
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, reopen
from trainers.api import EpochMetrics

AFTER_ONE = TrialRecord(0, epochs=(EpochRecord(EpochMetrics(epoch=1, val_accuracy=0.5), 0.0),))


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        (EpochMetrics(epoch=2, val_accuracy=0.5, params=7), None),
        (EpochMetrics(epoch=3, val_accuracy=0.5, params=7), "the trainer reported epoch 3 after epoch 1"),
        (EpochMetrics(epoch=2, val_accuracy=float("nan"), params=7), "the objective is nan after epoch 2"),
        (EpochMetrics(epoch=2, val_accuracy=float("inf"), params=7), "the objective is inf after epoch 2"),
        (EpochMetrics(epoch=2, val_accuracy=0.5), "did not report params, which objectives asks for, after epoch 2"),
    ],
)
def test_a_report_is_faulty_for_one_of_four_reasons(metrics: EpochMetrics, reason: str | None) -> None:
    spec = synthetic_spec("checked", objectives=["val_accuracy", "params"])
    problem = fault(spec, AFTER_ONE, metrics)
    assert problem is None if reason is None else problem is not None and reason in problem


def test_a_report_without_compute_is_faulty_only_where_rungs_count_it() -> None:
    metrics = EpochMetrics(epoch=2, val_accuracy=0.5)
    assert fault(synthetic_spec("checked"), AFTER_ONE, metrics) is None
    problem = fault(synthetic_spec("checked"), AFTER_ONE, metrics, needs_compute=True)
    assert problem == "asha.resource is compute, which the trainer does not report"


def test_a_lost_trial_is_told_at_once_and_charged_no_further_until_it_comes_again() -> None:
    """MLflow knows only what the events tell, and cannot take a charged GPU-hour back."""
    events: list[Event] = []
    ledger = create(InMemoryStorage(), synthetic_spec("lost", retries=1))
    conductor = Conductor(ledger, listener=events.append)
    conductor.next_trial()
    conductor.on_placed(0, "node", "cuda", 7)
    conductor.on_lost(0, "the node is gone")
    assert [event.kind for event in events] == ["started", "lost"]
    told = events[-1].trial
    assert told is not None
    (attempt,) = told.attempts
    assert attempt.ended is not None
    study = dataclasses.replace(ledger.study, trials=(told,))
    assert gpu_hours(study, attempt.ended + 3600) == gpu_hours(study, attempt.ended)
    conductor.next_trial()
    assert [event.kind for event in events] == ["started", "lost", "resumed"]


def test_a_driver_that_is_told_to_stop_says_so_in_the_ledger_before_its_running_epochs_end() -> None:
    storage, events = InMemoryStorage(), list[Event]()
    conductor = Conductor(create(storage, synthetic_spec("stopped")), listener=events.append)
    conductor.ledger.heartbeat()
    assert conductor.next_trial() is not None
    assert load_study(storage, "stopped").stopping is None
    conductor.tick()
    conductor.stop("interrupted by SIGINT")  # what the handler of the signal does
    conductor.tick()  # of the same second
    assert load_study(storage, "stopped").stopping == "interrupted by SIGINT"
    told = [event.study for event in events if event.study is not None]
    assert [study.stopping for study in told] == ["interrupted by SIGINT"], "its own view is told, too, and once"
    conductor.close()
    assert load_study(storage, "stopped").stopping is None
    Conductor(reopen(storage, synthetic_spec("stopped")))
    assert load_study(storage, "stopped").stopping is None, "what an earlier driver recorded does not count"
