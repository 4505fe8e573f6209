"""People steer a study that runs: each request is done once and answered, whatever dies in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from hpo.driver.conductor import Conductor
from hpo.driver.events import Event
from hpo.driver.signals import Interrupted, SignalGuard
from hpo.driver.steering.helm import Helm
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord
from hpo.ledger.steering.mailbox import Mailbox
from hpo.ledger.steering.requests import Answer, Kind, Request
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.clocks import Time
from tests.support.in_process_driver import create, reopen, steps
from tests.support.statements import counted


class Driver:
    """A study that trains in this process, and whoever asks something of it."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.events: list[Event] = []
        self.conductor = Conductor(ledger, listener=self.events.append)
        self.signals = SignalGuard("Continue with: hpo resume x")
        self.signals.watch(self.conductor.stop)
        self.helm = Helm(self.conductor, self.signals, ledger.token)
        self.rounds: Any = steps(self.conductor, folder)

    def ask(self, kind: Kind, **content: Any) -> Answer:
        request = Request.new(kind, **({"driver": self.ledger.token} | content))
        self.ledger.mailbox.post(request)
        self.helm.look()
        found = self.ledger.mailbox.find(request)
        assert found is not None
        assert found.answer is not None
        return found.answer

    @property
    def study(self) -> StudyRecord:
        return self.ledger.study

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.events if event.kind == "notice"]


@pytest.fixture
def spec() -> Spec:
    return synthetic_spec("steered")


@pytest.fixture
def driver(spec: Spec, tmp_path: Path) -> Driver:
    return Driver(create(InMemoryStorage(), spec), tmp_path)


def run_to_end(driver: Driver) -> StudyRecord:
    for _ in driver.rounds:
        pass
    driver.conductor.close()
    return driver.study


def epochs(driver: Driver) -> list[int]:
    return [len(trial.epochs) for trial in driver.study.trials]


def test_a_stop_from_elsewhere_ends_the_study_like_a_signal_and_names_who_asked(driver: Driver) -> None:
    next(driver.rounds)
    answer = driver.ask("stop")
    assert answer.state == "done"
    study = run_to_end(driver)
    assert {trial.status for trial in study.trials if trial.started} == {"interrupted"}
    assert study.ended is None
    (request,) = study.requests
    interruption = driver.signals.interruption()
    assert isinstance(interruption, Interrupted)
    assert str(interruption) == f"stopped by {request.by}"
    assert interruption.status == 130


def test_a_stop_at_once_ends_the_process_after_it_is_answered(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def leave(code: int) -> None:
        seen.append((code, [request.answer is not None for request in driver.study.requests]))

    monkeypatch.setattr("hpo.driver.signals.os._exit", leave)
    driver.ask("stop_now")
    assert seen == [(130, [True])]


def test_a_pause_interrupts_trials_at_their_next_checkpoint_and_ends_without_a_trace_in_the_results(
    tmp_path: Path,
) -> None:
    train = {"epochs": 8, "progressive": {"stages": 1}, "checkpoint_every": 2}
    every_second = synthetic_spec("paused", train=train)
    driver = Driver(create(InMemoryStorage(), every_second), tmp_path / "paused")
    next(driver.rounds)
    assert driver.ask("pause").state == "done"
    assert driver.study.paused is not None
    assert list(driver.rounds)[-1] == {0: 2, 1: 2}
    assert driver.conductor.steering.rest()
    assert not driver.conductor.exhausted
    assert {trial.status for trial in driver.study.trials} == {"interrupted"}
    assert driver.ask("continue").state == "done"
    assert driver.study.paused is None
    assert driver.conductor.steering.wait(driver.conductor.tick)
    driver.rounds = steps(driver.conductor, tmp_path / "paused")
    paused = run_to_end(driver)
    straight = run_to_end(Driver(create(InMemoryStorage(), every_second), tmp_path / "straight"))
    assert [trial.values for trial in paused.trials] == [trial.values for trial in straight.trials]
    assert [trial.status for trial in paused.trials] == [trial.status for trial in straight.trials]
    assert [len(trial.attempts) for trial in paused.trials][:3] == [2, 2, 1]


def test_the_time_of_a_pause_is_no_time_of_the_study(spec: Spec, tmp_path: Path) -> None:
    time = Time()
    driver = Driver(create(InMemoryStorage(), spec, time.clock()), tmp_path)
    next(driver.rounds)
    driver.ask("pause")
    list(driver.rounds)
    assert driver.conductor.steering.rest()
    before = driver.study.seconds
    waits = iter(range(3))

    def tick() -> None:
        time.wait(1000.0)
        if next(waits, None) == 1:
            driver.ask("continue")
        driver.conductor.tick()

    assert driver.conductor.steering.wait(tick)
    assert driver.study.seconds == pytest.approx(before, abs=30.0)


def test_a_pause_is_refused_once_the_budget_is_reached(driver: Driver) -> None:
    driver.conductor._ending._end("budget.hours: reached the budget of 1 hour")
    answer = driver.ask("pause")
    assert (answer.state, answer.text) == ("refused", "the study ends already: reached the budget of 1 hour")


def test_a_stopped_trial_ends_for_good_and_the_study_goes_on(driver: Driver) -> None:
    next(driver.rounds)
    answer = driver.ask("stop_trial", trial=1)
    assert (answer.state, answer.trial) == ("done", 1)
    (request,) = driver.study.requests
    stopped = driver.study.trials[1]
    assert stopped.status == "stopped"
    assert stopped.outcome is not None
    assert stopped.outcome.reason == f"stopped by {request.by} after epoch 1"
    assert driver.conductor.steering.take_stopped() == {1}
    assert driver.conductor.steering.take_stopped() == frozenset()
    study = run_to_end(driver)
    assert len(study.trials[1].epochs) == 1
    assert study.trials[1].status == "stopped"
    assert study.count("complete") >= 1
    assert study.ended == "budget.trials: reached the budget of 8 trials"


def test_a_resume_does_not_take_up_a_trial_that_was_stopped(spec: Spec, tmp_path: Path) -> None:
    storage = InMemoryStorage()
    driver = Driver(create(storage, spec), tmp_path)
    next(driver.rounds)
    driver.ask("stop")
    run_to_end(driver)
    again = Driver(reopen(storage, spec), tmp_path)
    assert again.ask("stop_trial", trial=0).state == "done"
    assert again.conductor.steering.take_stopped() == frozenset(), "it has no worker"
    assert [trial.status for trial in run_to_end(again).trials][:1] == ["stopped"]
    assert len(again.study.trials[0].attempts) == 1


@pytest.mark.parametrize(
    ("number", "said"),
    [(99, "there is no trial 99; trials: 0 to 1"), (0, "trial 0 has ended already: stopped, stopped by")],
)
def test_a_trial_that_cannot_be_stopped_says_why(driver: Driver, number: int, said: str) -> None:
    next(driver.rounds)
    driver.ask("stop_trial", trial=0)
    answer = driver.ask("stop_trial", trial=number)
    assert answer.state == "refused"
    assert said in answer.text


def test_an_added_configuration_is_tried_next_and_is_no_baseline(tmp_path: Path) -> None:
    driver = Driver(create(InMemoryStorage(), synthetic_spec("added", enqueue=[])), tmp_path)
    next(driver.rounds)
    answer = driver.ask("add", values={"extra.quality": 0.875})
    assert (answer.state, answer.trial) == ("done", 2)
    study = run_to_end(driver)
    added = study.trials[2]
    assert added.values == {"extra.quality": 0.875}
    assert added.origin is not None
    assert (added.origin.kind, added.origin.source) == ("enqueued", study.requests[0].by)
    assert study.baseline is None
    assert not added.control
    assert len(study.trials) == 8


def test_a_configuration_outside_of_the_space_is_refused_with_the_rule(driver: Driver) -> None:
    answer = driver.ask("add", values={"extra.quality": 7.0})
    assert answer.state == "refused"
    assert "extra.quality: is outside the space: must be" in answer.text
    assert len(driver.study.trials) == 1


def test_an_added_configuration_says_that_the_budget_has_no_trial_left(spec: Spec, tmp_path: Path) -> None:
    driver = Driver(create(InMemoryStorage(), synthetic_spec("full", budget={"trials": 1})), tmp_path)
    next(driver.rounds)
    assert "raise budget.trials" in driver.ask("add", values={"extra.quality": 0.25}).text
    assert driver.ask("set", overrides=("budget.trials=2",)).state == "done"
    assert [trial.values["extra.quality"] for trial in run_to_end(driver).trials] == [0.5, 0.25]


def test_a_larger_budget_is_in_force_at_once_and_recorded(driver: Driver) -> None:
    next(driver.rounds)
    answer = driver.ask("set", overrides=("budget.trials=11", "description=longer"))
    assert (answer.state, answer.text) == ("done", "budget.trials=11 description=longer is in force")
    assert driver.conductor.spec.budget.trials == 11
    (changed,) = [event.study for event in driver.events if event.study is not None]
    assert changed is not None
    assert (changed.spec.budget.trials, changed.trials) == (11, ())
    assert len(run_to_end(driver).trials) == 11
    assert "budget.trials=11 description=longer was set by" in " ".join(driver.notices)


def test_a_larger_budget_undoes_an_end_that_it_no_longer_justifies(driver: Driver) -> None:
    next(driver.rounds)
    driver.ask("set", overrides=("budget.target=0.01", "budget.when_reached=checkpoint"))
    for _ in driver.rounds:
        if driver.conductor.ending is not None:
            break
    assert driver.conductor.ending is not None
    assert driver.study.ended is not None
    assert driver.ask("set", overrides=("budget.target=null",)).state == "done"
    assert driver.conductor.ending is None
    assert driver.study.ended is None
    assert len(run_to_end(driver).trials) == 8
    assert driver.study.count("interrupted") == 0


def test_a_setting_that_makes_trials_incomparable_is_refused(driver: Driver) -> None:
    answer = driver.ask("set", overrides=("train.epochs=20",))
    assert answer.state == "refused"
    assert "train.epochs: 8 -> 20" in answer.text
    assert driver.conductor.spec.train.epochs == 8


def test_a_setting_that_a_driver_reads_at_its_start_only_is_refused_with_the_way_to_set_it(driver: Driver) -> None:
    answer = driver.ask("set", overrides=("resources.cpus=2",))
    assert answer.state == "refused"
    assert "stop the study and resume it with the same settings" in answer.text


def test_what_was_asked_of_a_driver_that_died_is_void_unless_it_concerns_a_trial(spec: Spec, tmp_path: Path) -> None:
    storage = InMemoryStorage()
    driver = Driver(create(storage, spec), tmp_path)
    next(driver.rounds)
    mailbox = Mailbox.of(storage, spec.study)
    kinds: list[tuple[Kind, dict[str, Any]]] = [
        ("stop", {}),
        ("stop_now", {}),
        ("pause", {}),
        ("set", {"overrides": ("budget.trials=99",)}),
        ("stop_trial", {"trial": 1}),
        ("add", {"values": {"extra.quality": 0.125}}),
    ]
    for kind, content in kinds:
        mailbox.post(Request.new(kind, driver=driver.ledger.token, **content))
    driver.rounds.close()
    again = Driver(reopen(storage, spec), tmp_path)
    with again.helm:
        assert {request.kind: request.answer and request.answer.state for request in again.study.requests} == {
            "stop": "void",
            "stop_now": "void",
            "pause": "void",
            "set": "void",
            "stop_trial": "done",
            "add": "done",
        }
        study = run_to_end(again)
    assert study.trials[1].status == "stopped"
    assert {"extra.quality": 0.125} in [trial.values for trial in study.trials]
    assert len(study.trials) == 8


@pytest.mark.parametrize("kind", ["add", "stop_trial", "set", "pause"])
def test_a_driver_that_dies_between_the_act_and_the_answer_does_nothing_twice(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/ledger.db")
    driver = Driver(create(storage, spec), tmp_path)
    next(driver.rounds)
    content: dict[str, Any] = {
        "add": {"values": {"extra.quality": 0.125}},
        "stop_trial": {"trial": 1},
        "set": {"overrides": ("budget.trials=9",)},
        "pause": {},
    }[kind]
    request = Request.new(kind, driver=driver.ledger.token, **content)
    driver.ledger.mailbox.post(request)
    with monkeypatch.context() as patch:
        patch.setattr(Mailbox, "answer", _die)
        with pytest.raises(KeyboardInterrupt):
            driver.helm.look()
    driver.rounds.close()
    again = Driver(reopen(open_storage(f"sqlite:///{tmp_path}/ledger.db"), spec), tmp_path)
    again.helm.look()
    found = again.ledger.mailbox.find(request)
    assert found is not None
    assert found.answer is not None
    study = run_to_end(again)
    assert study.paused is None
    assert sum(trial.values == {"extra.quality": 0.125} for trial in study.trials) == (kind == "add")
    assert study.count("stopped") == (kind == "stop_trial")
    assert len(study.trials) == (9 if kind == "set" else 8)


def _die(*ignored: object) -> None:
    raise KeyboardInterrupt


def test_a_look_is_one_statement_however_large_the_study_and_its_past_requests_are(spec: Spec, tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/ledger.db")
    driver = Driver(create(storage, spec), tmp_path)
    for _ in range(5):
        driver.ask("continue")
    run = [next(driver.rounds) for _ in range(3)]
    assert run
    with counted(storage) as seen:
        driver.helm.look()
    assert seen["statements"] == 1
    assert seen["commits"] == 0


def test_requests_of_another_study_are_not_read(spec: Spec, tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/ledger.db")
    driver = Driver(create(storage, spec), tmp_path)
    other = create(storage, synthetic_spec("other"))
    other.mailbox.post(Request.new("stop", driver=driver.ledger.token))
    driver.helm.look()
    assert driver.conductor.stopping is None
    assert load_study(storage, "other").requests[0].answer is None


def test_an_outage_of_the_database_delays_a_request(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request.new("pause", driver=driver.ledger.token)
    driver.ledger.mailbox.post(request)
    with monkeypatch.context() as patch:
        patch.setattr(Mailbox, "unanswered", _fail)
        driver.helm.look()
    assert driver.study.paused is None
    driver.helm.look()
    assert driver.study.paused is not None


def _fail(*ignored: object) -> None:
    raise OSError("the disk is gone")


def test_a_mistake_in_the_act_is_an_answer_and_no_silence(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*ignored: object) -> str:
        raise ZeroDivisionError("x")

    monkeypatch.setattr(driver.conductor.steering, "pause", broken)
    answer = driver.ask("pause")
    assert (answer.state, answer.text) == ("refused", "ZeroDivisionError: x")
    assert driver.ask("continue").state == "done"
