"""The commands that are proposed after a study: each is one that the study allows."""

from __future__ import annotations

import dataclasses

from hpo.ledger.outcome import Ending
from hpo.ledger.records import Repeat, StudyRecord
from hpo.results.progress import next_steps
from hpo.spec.study import Budget
from tests.support.sample_records import SPEC, study, trial

ONE = SPEC.model_copy(update={"budget": Budget(trials=1)})
COMPLETE = trial(0, 16, ending=Ending.COMPLETE, enqueued=True)


def commands(record: StudyRecord, home_option: str = "") -> list[str]:
    return [step.command for step in next_steps(record, home_option)]


def test_a_complete_trial_can_be_confirmed_exported_and_retrained() -> None:
    assert commands(study(COMPLETE, spec=ONE), " --home /x") == [
        "hpo confirm cifar10_b0 --home /x",
        "hpo export cifar10_b0 --home /x -o best.yaml",
        "hpo retrain best.yaml --home /x",
    ]


def test_without_a_complete_trial_nothing_is_proposed_that_needs_one() -> None:
    assert commands(study(trial(0, 0, ending=Ending.FAILED), spec=ONE)) == []
    assert commands(study(trial(0, 3, ending=Ending.INTERRUPTED))) == ["hpo resume cifar10_b0"]


def test_a_study_that_was_stopped_between_trials_is_continued() -> None:
    """Also before its first trial: no trial is interrupted, but the budget has trials left."""
    waiting = dataclasses.replace(trial(0, 0, enqueued=True), attempts=())
    assert commands(study(waiting, spec=ONE)) == commands(study(spec=ONE)) == ["hpo resume cifar10_b0"]
    assert commands(study(COMPLETE))[0] == "hpo resume cifar10_b0"


def test_a_study_is_not_continued_while_a_driver_may_be_at_work_on_it() -> None:
    running = study(trial(0, 3))
    assert commands(dataclasses.replace(running, driver="open")) == []
    assert commands(dataclasses.replace(running, driver="dead")) == ["hpo resume cifar10_b0"]


def test_a_study_that_its_budget_ended_is_continued_with_a_larger_one() -> None:
    ended = dataclasses.replace(study(COMPLETE), ended="budget.hours: reached the budget of 1 hours")
    assert commands(ended)[0] == "hpo resume cifar10_b0 budget.hours=…"


def test_a_confirmed_study_is_not_confirmed_again() -> None:
    repeats = tuple(dataclasses.replace(COMPLETE, number=i, repeat=Repeat(0, i, i, True)) for i in range(2))
    unfinished = (repeats[0], dataclasses.replace(repeats[1], outcome=None))
    assert not any("confirm" in one for one in commands(dataclasses.replace(study(COMPLETE), repeats=repeats)))
    assert any("confirm" in one for one in commands(dataclasses.replace(study(COMPLETE), repeats=unfinished)))


def test_a_trainer_that_cannot_be_retrained_is_not_proposed_for_it() -> None:
    custom = ONE.model_copy(update={"trainer": "mine:train"})
    assert commands(study(COMPLETE, spec=custom)) == [
        "hpo confirm cifar10_b0",
        "hpo export cifar10_b0 -o best.yaml",
    ]
