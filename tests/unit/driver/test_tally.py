"""What the driver keeps of all trials equals what their records say, and costs the same however many they are."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from hpo.driver.conductor import Conductor
from hpo.driver.decisions.nodes import Place
from hpo.driver.decisions.tally import Tally
from hpo.driver.listeners import BestFile
from hpo.export.incumbent import Incumbent
from hpo.home import Home
from hpo.ledger.outcome import Cause, Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, Repeat, StudyRecord, TrialRecord
from hpo.ledger.writer import Ledger
from hpo.results.best import incumbent, training
from hpo.results.gpu_hours import gpu_hours
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.clocks import Time
from tests.support.in_process_driver import create, reopen
from tests.support.touched_trials import touched
from trainers.api import EpochMetrics

NODES = ("a", "b", "c")
LIKELY = {"epoch": 20, "place": 8, "fails": 2, "lost": 2, "lacking": 0.2, "stranded": 0.5}
"""What happens to a trial at work, and how often."""


def a_spec(**changes: Any) -> Spec:
    settings: dict[str, Any] = {
        "train": {"epochs": 4, "progressive": {"stages": 1}},
        "asha": {"resource": "epochs", "reduction_factor": 2, "controls": 0.2},
        "budget": {"trials": 5_000, "gpu_hours": 1e6, "hours": 1e6},
        "retries": 1,
        "stop_after_failures": 0,
    }
    return synthetic_spec("tallied", **(settings | changes))


def watched(ledger: Ledger, home: Home) -> tuple[Conductor, BestFile]:
    """A conductor and the file that it keeps current."""
    files: list[BestFile] = []
    conductor = Conductor(ledger, listener=lambda event: files[0](event))
    files.append(BestFile(ledger.study, conductor.tally, home))
    return conductor, files[0]


def check(tally: Tally, study: StudyRecord, now: float) -> None:
    assert tally.started == sum(trial.started for trial in study.trials)
    assert tally.reported == sum(bool(trial.epochs) for trial in study.trials)
    assert tally.best == study.best
    assert tally.incumbent == incumbent(study)
    assert tally.gpu_hours(now) == pytest.approx(gpu_hours(study, now), rel=1e-12)


class Chance:
    """A cluster of three nodes on which anything may happen next; the third one lacks something."""

    def __init__(self, conductor: Conductor, time: Time, chance: random.Random, device: str) -> None:
        self.conductor, self.time, self.chance, self.device = conductor, time, chance, device
        self.at_work: list[int] = []

    def step(self) -> None:
        self.time.wait(self.chance.choice([0.0, 1.0, 7.5, 60.0]))
        self.conductor.tick()
        if len(self.at_work) < self.chance.randint(1, 8):
            if (assignment := self.conductor.next_trial()) is not None:
                self.at_work.append(assignment.number)
            return
        number, node = self.chance.choice(self.at_work), self.chance.choice(NODES)
        if not self.happens(number, Place(node, node, frozenset(NODES) - {node})):
            self.at_work.remove(number)

    def happens(self, number: int, place: Place) -> bool:
        """Return whether the trial goes on."""
        conductor, at = self.conductor, self.chance.choice([None, place])
        match self.chance.choices(list(LIKELY), list(LIKELY.values()))[0]:
            case "epoch":
                epoch = max(1, len(conductor.ledger.trial(number).epochs) + self.chance.choice([0, 1, 1, 1, 1]))
                value = self.chance.choice([0.25, 0.5, self.chance.random(), self.chance.random(), float("nan")])
                return conductor.on_epoch(number, EpochMetrics(epoch=epoch, val_accuracy=value, compute=0.9 * epoch))
            case "place":
                conductor.on_placed(number, place.host, self.device, 1, place.node)
                return True
            case "fails":
                conductor.on_failure(number, "ValueError: x", self.chance.choice(list(Cause)), at)
            case "lost":
                conductor.on_lost(number, "its worker died", at)
            case "lacking":
                conductor.on_lacking(number, "lacks the trainer", Place("c", "c", frozenset("ab")))
            case "stranded":
                conductor.on_stranded(number)
        return False


@pytest.mark.parametrize(("seed", "resource"), [(0, "epochs"), (1, "compute")])
def test_running_sums_and_best_yaml_equal_the_records_after_any_events_and_resumes(
    home: Home, seed: int, resource: str
) -> None:
    """Four drivers, one after another, of which one has no GPU and two die without closing the ledger."""
    storage, time, chance = optuna.storages.InMemoryStorage(), Time(), random.Random(seed)
    spec = a_spec(asha={"resource": resource, "reduction_factor": 2, "controls": 0.2})
    home.study(spec.study).mkdir(parents=True)
    for device, dies in (("cuda", True), ("cpu", False), ("cuda", True), ("cuda", False)):
        ledger = (reopen if storage.get_all_studies() else create)(storage, spec, time.clock())
        conductor, best = watched(ledger, home)
        cluster = Chance(conductor, time, chance, device)
        for step in range(250):
            cluster.step()
            if step % 5 == 0:
                study = ledger.study
                check(conductor.tally, study, ledger.clock.now())
                if (leading := incumbent(study)) is not None:
                    assert best._file._written == training(study, partial=True), leading
        if not dies:
            conductor.close()
            check(conductor.tally, ledger.study, ledger.clock.now())
        assert conductor.fatal is None
    statuses = {trial.status for trial in ledger.trials}
    assert statuses >= {"complete", "pruned", "failed", "interrupted"}
    assert any(attempt.put_back for trial in ledger.trials for attempt in trial.attempts)


def test_running_sums_of_a_confirmation_equal_its_records() -> None:
    storage, time, chance, spec = optuna.storages.InMemoryStorage(), Time(), random.Random(0), a_spec()
    create(storage, spec)
    ledger = Ledger.create(storage, spec, {}, clock=time.clock(), name="tallied/confirmation")
    repeats = [Repeat(trial, seed, seed, trial == 0) for trial in range(20) for seed in range(3)]
    planned = [(repeat, {"extra.quality": 0.5}) for repeat in repeats]
    ledger.plan(planned)
    ledger.respecify(a_spec(budget={"trials": len(planned)}))
    conductor = Conductor(ledger)
    cluster = Chance(conductor, time, chance, "cuda")
    for _ in range(200):
        cluster.step()
        check(conductor.tally, ledger.study, ledger.clock.now())


def test_running_sums_follow_records_that_change_in_any_way() -> None:
    """Also in ways that no conductor knows: a device that is corrected, a trial that is better no more."""
    chance = random.Random(0)
    spec = a_spec()
    tally, trials = Tally(spec), dict[int, TrialRecord]()
    for now in range(2_000):
        trial = any_record(chance, chance.randrange(40), float(now))
        trials[trial.number] = trial
        tally.update(trial)
        check(tally, StudyRecord("any", spec, {}, tuple(trials[number] for number in sorted(trials))), float(now))


def any_record(chance: random.Random, number: int, now: float) -> TrialRecord:
    def moment() -> float:
        return chance.uniform(0.0, now)

    starts = sorted(moment() for _ in range(chance.randint(1, 3)))
    attempts = tuple(
        Attempt(
            start,
            device=chance.choice([None, "cuda", "cuda:1", "cpu"]),
            gpus=chance.choice([None, 0.5, 2.0]),
            ended=chance.choice([None, chance.uniform(start, now)]),
            lost=chance.choice([None, "gone"]),
        )
        for start in starts
    )
    epochs = tuple(
        EpochRecord(EpochMetrics(epoch=epoch + 1, val_accuracy=chance.choice([0.1, 0.2, chance.random()])), moment())
        for epoch in range(chance.randint(0, 4))
    )
    ending = chance.choice([None, None, *Ending])
    finished = chance.uniform(starts[-1], now) if ending in (Ending.COMPLETE, Ending.FAILED) else None
    outcome = Outcome(ending, "") if ending is not None and (epochs or ending is not Ending.COMPLETE) else None
    return TrialRecord(number, attempts=attempts, epochs=epochs, outcome=outcome, finished=outcome and finished)


# ------------------------------------------------------------------------------------------------- growth


def grown(home: Home, trials: int) -> Conductor:
    """A study with so many complete trials, and two that train."""
    spec = a_spec(asha={"enabled": False}, train={"epochs": 1, "progressive": {"stages": 1}}, study=f"of-{trials}")
    ledger = create(optuna.storages.InMemoryStorage(), spec)
    home.study(spec.study).mkdir(parents=True)
    conductor, _ = watched(ledger, home)
    for number in range(trials):
        assert conductor.next_trial() is not None
        conductor.on_placed(number, "host", "cuda", 1, "a")
        conductor.on_epoch(number, EpochMetrics(epoch=1, val_accuracy=0.5))
    for number in (trials, trials + 1):
        assert conductor.next_trial() is not None
        conductor.on_placed(number, "host", "cuda", 1, "a")
    return conductor


def calls(conductor: Conductor) -> dict[str, Callable[[], object]]:
    number = len(conductor.ledger.trials) - 2
    return {
        "on_epoch": lambda: conductor.on_epoch(number, EpochMetrics(epoch=1, val_accuracy=0.4)),
        "tick": conductor.tick,
        "next_trial": conductor.next_trial,
        "on_lost": lambda: conductor.on_lost(number + 1, "gone"),
        "on_failure": lambda: conductor.on_failure(number + 2, "ValueError: x"),
        "exhausted": lambda: (conductor.exhausted, conductor.running),
    }


def test_no_call_of_the_thread_that_schedules_looks_at_more_trials_in_a_larger_study(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(conductor: Conductor) -> dict[str, int]:
        counts = {}
        for name, call in calls(conductor).items():
            with touched(monkeypatch) as numbers:
                call()
            counts[name] = len(numbers)
        assert conductor.fatal is None
        return counts

    small, large = counted(grown(home, 40)), counted(grown(home, 240))
    assert small == large
    assert small["on_epoch"] <= 3
    assert max(large.values()) <= 4


def test_the_time_is_checked_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    time, beats = Time(), list[float]()
    conductor = Conductor(create(optuna.storages.InMemoryStorage(), a_spec(), time.clock()))
    monkeypatch.setattr(conductor, "_check_clock", lambda: beats.append(time.passed))
    for _ in range(1_000):
        conductor.tick()
        time.wait(0.01)
    assert len(beats) == 10


def test_best_yaml_is_written_only_when_what_it_says_changes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[StudyRecord] = []
    monkeypatch.setattr(Incumbent, "update", lambda self, study, predicted: updates.append(study))
    conductor = grown(home, 40)
    assert len(updates) == 2, "the first trial leads, then it is complete; the others are as good as it"
    number = len(conductor.ledger.trials) - 2
    conductor.on_epoch(number, EpochMetrics(epoch=1, val_accuracy=0.4))
    assert len(updates) == 2
    conductor.on_epoch(number + 1, EpochMetrics(epoch=1, val_accuracy=0.6))
    assert len(updates) == 3
    assert [trial.number for trial in updates[-1].trials] == [number + 1], "and of no more than it needs"
