"""What a dead driver left half-written is found from the records alone."""

from __future__ import annotations

import dataclasses

from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, RungDecision, TrialRecord
from hpo.ledger.tables.names import START_KEY
from hpo.ledger.tables.recovery import half_asked, last_sign_of_life, repairs
from trainers.api import EpochMetrics

EPOCHS = 4


def record(epochs: int, **changes: object) -> TrialRecord:
    """A trial that reported this many epochs, at seconds 11, 12, …, of an attempt that began at second 10."""
    reported = tuple(
        EpochRecord(EpochMetrics(epoch=epoch, val_accuracy=epoch / 10), recorded=10.0 + epoch)
        for epoch in range(1, epochs + 1)
    )
    trial = TrialRecord(0, attempts=(Attempt(started=10.0),), epochs=reported)
    return dataclasses.replace(trial, **changes)


def stored(state: TrialState = TrialState.RUNNING, epochs: int = 0, **attributes: object) -> FrozenTrial:
    """A trial as Optuna has it, with the values of this many epochs."""
    trial = create_trial(
        state=state,
        value=0.5 if state is TrialState.COMPLETE else None,
        intermediate_values={epoch: epoch / 10 for epoch in range(1, epochs + 1)},
        user_attrs=attributes,
    )
    trial.number = 0
    return trial


def endings(trial: TrialRecord, frozen: FrozenTrial) -> list[Ending | None]:
    found = repairs([frozen], {0: trial}, EPOCHS)
    return [repair.outcome.ending if repair.outcome else None for repair in found]


def test_a_trial_that_was_left_running_is_interrupted_and_reports_the_values_that_optuna_lacks() -> None:
    (repair,) = repairs([stored(epochs=1)], {0: record(3)}, EPOCHS)
    assert [epoch.metrics.epoch for epoch in repair.unreported] == [2, 3]
    assert repair.outcome is not None
    assert repair.outcome.ending is Ending.INTERRUPTED


def test_a_trial_whose_last_epoch_was_recorded_is_complete() -> None:
    assert endings(record(EPOCHS), stored(epochs=EPOCHS)) == [Ending.COMPLETE]


def test_a_trial_that_a_rung_had_stopped_is_pruned() -> None:
    stop = RungDecision(rung=2.0, value=0.2, cutoff=0.3, order=0, keep=False)
    assert endings(record(2, rungs=(stop,)), stored(epochs=2)) == [Ending.PRUNED]


def test_with_landing_a_trial_that_a_rung_had_stopped_is_kept_until_it_is_taken_up() -> None:
    stop = RungDecision(rung=2.0, value=0.2, cutoff=0.3, order=0, keep=False)
    stopped = record(2, rungs=(stop,))
    (repair,) = repairs([stored(epochs=2)], {0: stopped}, EPOCHS, keep=True)
    kept = repair.outcome
    assert kept is not None
    assert kept.kept
    known = dataclasses.replace(stopped, outcome=kept)
    assert [one.outcome for one in repairs([stored(TrialState.WAITING, 2)], {0: known}, EPOCHS, keep=True)] == [None]
    assert [one.outcome for one in repairs([stored(epochs=2)], {0: known}, EPOCHS, keep=True)] == [kept]
    again = Attempt(started=20.0, resumed_after=2, taken_up=True)
    trained = record(3, rungs=(stop,), attempts=(Attempt(started=10.0), again))
    (repair,) = repairs([stored(epochs=3)], {0: trained}, EPOCHS, keep=True)
    assert repair.outcome is not None
    assert repair.outcome.ending is Ending.INTERRUPTED


def test_an_end_that_was_recorded_but_not_told_to_optuna_stays_what_it_was() -> None:
    failed = Outcome(Ending.FAILED, "out of memory")
    (repair,) = repairs([stored(epochs=1)], {0: record(1, outcome=failed)}, EPOCHS)
    assert repair.outcome == failed


def test_a_trial_that_waits_for_a_resume_needs_no_repair() -> None:
    interrupted = Outcome(Ending.INTERRUPTED, f"stopped after epoch 1 of {EPOCHS}")
    assert endings(record(1, outcome=interrupted), stored(TrialState.WAITING, epochs=1)) == [None]


def test_trials_that_have_not_started_or_have_ended_are_left_alone() -> None:
    assert endings(TrialRecord(0), stored(TrialState.WAITING)) == []
    assert endings(record(EPOCHS), stored(TrialState.COMPLETE, epochs=EPOCHS)) == []


def test_a_trial_that_optuna_has_begun_and_no_driver_has_is_half_asked() -> None:
    begun = stored()
    assert list(half_asked([begun], {})) == [begun]
    assert list(half_asked([begun], {0: TrialRecord(0)})) == [begun]
    assert list(half_asked([begun], {0: record(0)})) == []
    assert list(half_asked([stored(**{START_KEY: {"seed": 1}})], {})) == []


def test_the_last_sign_of_life_is_the_latest_of_attempt_epoch_and_driver() -> None:
    assert last_sign_of_life([record(0)], []) == 10.0
    assert last_sign_of_life([record(2)], [(0.0, 11.0)]) == 12.0
    assert last_sign_of_life([record(2)], [(0.0, 9.0), (10.0, 40.0)]) == 40.0


def test_the_records_of_every_trial_are_signs_of_life() -> None:
    """A driver that recorded the end of one trial was alive then, and so were the workers of the others."""
    assert last_sign_of_life([record(0), record(3)], []) == 13.0
    assert last_sign_of_life([record(0), record(3, finished=15.0)], []) == 15.0
    assert last_sign_of_life([record(0), TrialRecord(1)], []) == 10.0
