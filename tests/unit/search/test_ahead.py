"""Suggestions made ahead in a thread: the same whatever its speed, made anew where results have overtaken them."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from hpo.driver.conductor import Conductor
from hpo.ledger.outcome import Cause, Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, TrialRecord
from hpo.search.ahead import Ahead
from hpo.search.policies.history import History
from hpo.search.policies.seeded import SeededSampler, Suggestion
from hpo.search.samplers import make_sampler
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create
from trainers.api import EpochMetrics

SPACE: Mapping[str, BaseDistribution] = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
COMPLETE = Outcome(Ending.COMPLETE, "complete")
PRUNED = Outcome(Ending.PRUNED, "pruned")
FAILED = Outcome(Ending.FAILED, "diverged", Cause.CONFIGURATION)


def sampler(policy: str = "gp", **options: Any) -> SeededSampler:
    made = make_sampler(policy, **{"seed": 0, "horizon": 4, "distributions": SPACE, "random_share": 0.0} | options)
    assert isinstance(made, SeededSampler)
    return made


class Study:
    """Trials that a test lets begin, report and end."""

    def __init__(self, sampler: SeededSampler, limit: int = 1000, between: float = 0.0) -> None:
        """`between` is the number of seconds from the end of a trial to the end of the next one."""
        self.ahead = Ahead(sampler, limit=limit)
        self.between, self.ended = between, 0
        self.trials: list[TrialRecord] = []

    def begin(self) -> Suggestion:
        number = len(self.trials)
        suggestion = self.ahead.take(number)
        self.trials.append(TrialRecord(number, suggestion.values, attempts=(Attempt(0.0),)))
        self.ahead.notice(self.trials[-1])
        return suggestion

    def report(self, number: int, epoch: int | None = None) -> None:
        trial = self.trials[number]
        epochs = [*trial.epochs]
        while len(epochs) < (epoch or len(trial.epochs) + 1):
            height = 1 - sum((value - 0.3) ** 2 for value in trial.values.values() if isinstance(value, float))
            value = height - 0.2 / (len(epochs) + 1)
            epochs.append(EpochRecord(EpochMetrics(epoch=len(epochs) + 1, val_accuracy=value), 0.0))
            self.trials[number] = dataclasses.replace(self.trials[number], epochs=tuple(epochs))
            self.ahead.notice(self.trials[number])

    def end(self, number: int, outcome: Outcome = PRUNED) -> None:
        self.ended += 1
        finished = self.between * self.ended
        self.trials[number] = dataclasses.replace(self.trials[number], outcome=outcome, finished=finished)
        self.ahead.notice(self.trials[number])

    def take_up(self, number: int) -> None:
        """Let a trial that was pruned go on."""
        trial = self.trials[number]
        again = Attempt(0.0, len(trial.epochs), taken_up=True)
        self.trials[number] = dataclasses.replace(trial, outcome=None, finished=None, attempts=(*trial.attempts, again))
        self.ahead.notice(self.trials[number])

    def settle(self) -> None:
        """Wait until the thread has done all that it was asked for."""
        self.ahead._thread.submit(lambda: None).result()


class Recording:
    """Counts what a sampler suggests, and in which thread; it may be slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
        self.numbers: list[int] = []
        self.threads: set[str] = set()
        self.made: list[Suggestion] = []
        """All of them, so that no two have the same id."""
        self.known: dict[int, tuple[int, int]] = {}
        """By the id of a suggestion, how many trials had values then, and how many had failed."""
        suggest = SeededSampler.suggest

        def recorded(sampler: SeededSampler, history: History, number: int, past: Any = ()) -> Suggestion:
            self.numbers.append(number)
            self.threads.add(threading.current_thread().name)
            time.sleep(seconds)
            self.made.append(suggest(sampler, history, number, past))
            trials = history.spread_over_values().trials
            failed = sum(trial.state == TrialState.FAIL for trial in trials)
            self.known[id(self.made[-1])] = (sum(bool(trial.values) for trial in trials), failed)
            return self.made[-1]

        monkeypatch.setattr(SeededSampler, "suggest", recorded)


def begun(trials: int, complete: int) -> Study:
    """So many trials have begun. The first ones were complete before the next one began."""
    study = Study(sampler(startup_trials=4))
    for number in range(trials):
        study.begin()
        if number < complete:
            study.report(number, 4)
            study.end(number, COMPLETE)
    return study


@pytest.fixture
def crowd() -> Study:
    """20 running trials of a study whose trials end fast, learned from the first eight."""
    return begun(28, complete=8)


@pytest.mark.parametrize("policy", ["gp", "tpe", "random"])
def test_while_few_trials_run_the_suggestions_are_those_of_the_sampler_itself(policy: str) -> None:
    """The records of a ledger and Optuna's own trials teach a sampler the same."""
    study, stored = Study(sampler(policy)), optuna.create_study(direction="maximize", sampler=sampler(policy))
    for number in range(30):
        trial = stored.ask(dict(SPACE))
        assert study.begin().values == trial.params
        study.report(number, 4 if number % 3 == 0 else 1)
        for epoch in study.trials[number].epochs:
            trial.report(epoch.value, epoch.metrics.epoch)
        study.end(number, COMPLETE if number % 3 == 0 else PRUNED)
        state = optuna.trial.TrialState.COMPLETE if number % 3 == 0 else optuna.trial.TrialState.PRUNED
        stored.tell(trial, study.trials[number].value if number % 3 == 0 else None, state)


@pytest.mark.parametrize("policy", ["gp", "tpe"])
def test_many_workers_get_the_same_suggestions_however_slow_the_thread_is(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(seconds: float) -> list[dict[str, Any]]:
        with monkeypatch.context() as patched:
            Recording(patched, seconds)
            study = Study(sampler(policy))
            for number in range(60):
                study.begin()
                if number >= 20:
                    study.report(number - 20, 1)
                    study.end(number - 20, FAILED if number % 11 == 0 else PRUNED)
            study.ahead.close()
        return [dict(trial.values) for trial in study.trials]

    assert values(0.0) == values(0.01)


def test_suggestions_for_many_workers_are_ready_and_made_in_the_thread(
    crowd: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd.settle()
    recording = Recording(monkeypatch)
    crowd.begin()
    crowd.settle()
    assert recording.numbers == [29], "28 was ready, and 29 is for the next free worker"
    assert len(recording.threads) == 1
    assert "suggestions" in recording.threads.pop()


def test_where_trials_end_slowly_only_what_is_drawn_at_random_is_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    recording, study = Recording(monkeypatch), Study(sampler(startup_trials=12), between=1.0)
    for _ in range(20):
        study.begin()
        study.settle()
    for number in range(10):
        study.report(number, 1)
        study.end(number)
        study.settle()
    assert recording.numbers == list(range(20))


def test_no_suggestion_is_made_beyond_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    recording, study = Recording(monkeypatch), Study(sampler(), limit=40)
    for _ in range(40):
        study.begin()
    study.settle()
    assert recording.numbers == list(range(40))


@pytest.mark.parametrize(
    ("results", "made"),
    [
        (["epoch"], [29]),
        (["epoch"] * 2, [29, 29]),
        (["later"] * 6, []),
        (["end"] * 2, []),
        (["failure"], [29]),
        (["end", "again"], [29]),
    ],
)
def test_a_waiting_suggestion_is_made_anew_with_each_result_of_a_trial_that_goes_on_and_after_a_failure(
    crowd: Study, results: list[str], made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs 2 and 3 are no results: the model does not look at them. A worker whose trial has ended asks at once."""
    for number in range(10, 20):
        crowd.report(number, 1)
    crowd.begin()
    crowd.settle()
    recording = Recording(monkeypatch)
    for index, kind in enumerate(results):
        if kind == "epoch":
            crowd.report(20 + index)
        elif kind == "later":
            crowd.report(10 + index, 3)
        elif kind == "end":
            crowd.report(10 + index, 3)
            crowd.end(10 + index)
        elif kind == "again":
            crowd.take_up(10)
        else:
            crowd.end(20 + index, FAILED)
        crowd.settle()
    crowd.ahead.close()
    assert recording.numbers == made


@pytest.mark.parametrize("seconds", [0.0, 0.005])
@pytest.mark.parametrize(("between", "missed"), [(0.0, {0, 1}), (0.19, {0, 1}), (0.3, {0})])
def test_what_is_handed_out_misses_one_result_at_most_and_no_failure_and_nothing_where_trials_end_slowly(
    seconds: float, between: float, missed: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the thread is, and in whatever order trials report, end and fail."""
    recording, chance = Recording(monkeypatch, seconds), random.Random(0)
    study = Study(sampler(startup_trials=4), between=between)
    ages: list[int] = []
    for _ in range(90):
        number = len(study.trials)
        suggestion = study.begin()
        results = sum(bool(trial.epochs) for trial in study.trials)
        failures = sum(trial.outcome is FAILED for trial in study.trials)
        known, failed = recording.known[id(suggestion)]
        if not study.ahead._sampler.is_spread(number):
            ages.append(results - known)
            assert failed == failures
        while len(study.trials) >= 16 and sum(trial.outcome is None for trial in study.trials) > 15:
            running = [trial.number for trial in study.trials if trial.outcome is None]
            number = chance.choice(running)
            if not study.trials[number].epochs:
                study.report(number)
            if chance.random() < 0.7:
                study.end(number, FAILED if chance.random() < 0.1 else PRUNED)
    study.ahead.close()
    assert set(ages) == missed


def test_what_is_drawn_at_random_whatever_the_results_is_never_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    recording, study = Recording(monkeypatch), Study(sampler(random_share=1.0))
    for _ in range(20):
        study.begin()
    for number in range(20):
        study.report(number, 1)
        study.end(number, FAILED)
    study.begin()
    study.settle()
    assert recording.numbers == sorted(set(recording.numbers))


def test_suggestions_for_many_workers_keep_their_distance() -> None:
    """Each is made when the trial before it has begun; else two of one moment would be the same."""
    study = begun(60, complete=20)
    points = [(trial.values["x"], trial.values["y"]) for trial in study.trials[20:]]
    near = [abs(a - c) + abs(b - d) for i, (a, b) in enumerate(points) for c, d in points[:i]]  # type: ignore[operator]
    assert min(near) >= 0.05


def test_what_was_made_before_a_trial_was_taken_up_is_not_handed_out(crowd: Study) -> None:
    crowd.report(10, 1)
    crowd.end(10)
    number = len(crowd.trials)
    before = crowd.ahead.peek(number)
    assert crowd.ahead.peek(number) is before
    assert crowd.ahead.ends([before.values]) is not None
    assert crowd.ahead._history.has_ended(10)
    crowd.take_up(10)
    assert crowd.ahead.peek(number) is not before
    assert not crowd.ahead._history.has_ended(10)


def test_an_error_of_the_sampler_in_the_thread_reaches_who_takes_the_suggestion(
    crowd: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Suggestion:
        raise ZeroDivisionError("in the sampler")

    crowd.settle()
    monkeypatch.setattr(SeededSampler, "suggest", fail)
    crowd.begin()
    with pytest.raises(ZeroDivisionError, match="in the sampler"):
        crowd.begin()


def test_the_thread_ends_when_it_is_closed(crowd: Study) -> None:
    threads = [thread for thread in threading.enumerate() if thread in crowd.ahead._thread._threads]
    assert threads
    crowd.ahead.close()
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("fails", [False, True])
def test_a_study_ends_with_its_thread_also_where_the_sampler_fails(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = synthetic_spec(
        "crowd", search={"policy": "gp", "startup_trials": 4, "random_share": 0.0}, budget={"trials": 50}
    )
    conductor = Conductor(create(InMemoryStorage(), spec))
    for _ in range(12):
        conductor.next_trial()
    for number in range(5):
        conductor.on_epoch(number, EpochMetrics(epoch=1, val_accuracy=0.5))
    conductor.next_trial()
    conductor.on_epoch(5, EpochMetrics(epoch=1, val_accuracy=0.5))
    if fails:
        monkeypatch.setattr(SeededSampler, "suggest", lambda *arguments: 1 / 0)
        assert [conductor.next_trial() for _ in range(2)][1] is None
        assert isinstance(conductor.fatal, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
        conductor.close()
    assert conductor._ahead is not None
    assert not any(thread.is_alive() for thread in conductor._ahead._thread._threads)
