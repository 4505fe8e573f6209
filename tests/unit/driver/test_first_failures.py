"""A study whose trials all fail in the same way at the start stops early and says so."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from hpo.driver.conductor import Conductor
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create
from trainers.api import EpochMetrics


def begun(**changes: Any) -> tuple[Conductor, list[str]]:
    spec = synthetic_spec(**({"budget": {"trials": 20}} | changes))
    notices: list[str] = []
    return Conductor(
        create(optuna.storages.InMemoryStorage(), spec), listener=lambda event: notices.append(event.text)
    ), notices


def fail(conductor: Conductor, text: str) -> None:
    assignment = conductor.next_trial()
    assert assignment is not None
    conductor.on_failure(assignment.number, text)


def test_three_equal_failures_at_the_start_end_the_study() -> None:
    conductor, notices = begun()
    for number in range(3):
        assert conductor.ending is None
        fail(conductor, f"ReportError: the trainer yielded None, trial {number}\ntraceback")
    assert conductor.next_trial() is None
    assert conductor.exhausted
    assert conductor.ledger.study.ended is not None
    assert conductor.ledger.study.ended.startswith("stop_after_failures: the first 3 trials failed in the same way")
    assert any("the trainer yielded None" in text for text in notices)


@pytest.mark.parametrize("limit", [0, 5])
def test_the_number_of_failures_is_a_setting(limit: int) -> None:
    conductor, _ = begun(stop_after_failures=limit)
    for _ in range(4):
        fail(conductor, "ValueError: x")
    assert conductor.ending is None
    fail(conductor, "ValueError: x")
    assert (conductor.ending is None) == (limit == 0)


def test_different_failures_do_not_end_the_study() -> None:
    conductor, _ = begun()
    for kind in ("ValueError: x", "KeyError: y", "ValueError: x", "TypeError: z"):
        fail(conductor, kind)
    assert conductor.ending is None


def test_a_trial_that_reported_an_epoch_shows_that_training_works() -> None:
    conductor, _ = begun()
    working = conductor.next_trial()
    assert working is not None
    assert conductor.on_epoch(working.number, EpochMetrics(epoch=1, val_accuracy=0.5))
    for _ in range(5):
        fail(conductor, "ValueError: x")
    assert conductor.ending is None


def test_the_recorded_reason_of_a_failure_with_a_very_long_text_is_short() -> None:
    conductor, _ = begun()
    assignment = conductor.next_trial()
    assert assignment is not None
    conductor.on_failure(assignment.number, f"RuntimeError: {bytes(1_000_000).hex()}")
    outcome = conductor.ledger.trial(assignment.number).outcome
    assert outcome is not None
    assert len(outcome.reason) < 5_000


def test_reports_that_lack_an_objective_count_too() -> None:
    conductor, _ = begun(objectives=["val_accuracy", "params"])
    for _ in range(3):
        assignment = conductor.next_trial()
        assert assignment is not None
        assert not conductor.on_epoch(assignment.number, EpochMetrics(epoch=1, val_accuracy=0.5))
    assert conductor.ending is not None
    assert "did not report params" in conductor.ending


def test_workers_that_always_die_at_the_start_count_too() -> None:
    conductor, _ = begun(retries=0)
    for _ in range(3):
        assignment = conductor.next_trial()
        assert assignment is not None
        conductor.on_lost(assignment.number, "its worker died: exit code 1")
    assert conductor.ending is not None
    assert "exit code 1" in conductor.ending


def test_configurations_that_diverge_do_not_end_the_study() -> None:
    conductor, _ = begun()
    for _ in range(4):
        assignment = conductor.next_trial()
        assert assignment is not None
        conductor.on_epoch(assignment.number, EpochMetrics(epoch=1, val_accuracy=float("nan")))
    assert conductor.ending is None
