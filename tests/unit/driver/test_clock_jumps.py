"""Somebody sets the wall clock while a study runs: every duration stays true."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage
from rich.console import Console

from hpo.cli.display import watch
from hpo.cli.display.screen import Screen
from hpo.cli.display.status import show_study
from hpo.driver.conductor import Conductor
from hpo.home import Home
from hpo.ledger.attributes import HOLDER_KEY
from hpo.ledger.lock import LEASE_S, Lease
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.processes import fingerprint
from hpo.results.gpu_hours import gpu_hours
from hpo.results.progress import progress
from hpo.spec.study import Spec
from hpo.tracking.runs import ms_after
from reports.analysis.timeline import account, spans
from tests.conftest import synthetic_spec
from tests.support.clocks import EPOCH, HOUR, Time
from tests.support.in_process_driver import create, reopen
from tests.support.leases import begin
from tests.support.sample_records import busy
from trainers.api import EpochMetrics

JUMPS = [9 * HOUR, -HOUR, -9 * HOUR]
EPOCHS = 16


def a_spec() -> Spec:
    return synthetic_spec(
        "jumping",
        train={"epochs": EPOCHS, "progressive": {"stages": 1}},
        asha={"enabled": False},
        enqueue=[],
        budget={"trials": 50, "hours": 8},
    )


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Virtual time, which also the module `time` tells of the wall."""
    virtual = Time()
    monkeypatch.setattr("time.time", virtual.wall)
    return virtual


def train(conductor: Conductor, time: Time, seconds: float = 600.0) -> Iterator[float]:
    """One trial after the other, an epoch of so many seconds after the other; yields the time that has passed."""
    while (job := conductor.next_trial()) is not None:
        conductor.on_placed(job.number, "node", "cuda", 1)
        continues = True
        while continues:
            for _ in range(int(seconds / 60)):
                time.wait(60)
                conductor.tick()
            epoch = len(conductor.ledger.trial(job.number).epochs) + 1
            report = EpochMetrics(epoch=epoch, val_accuracy=0.5, seconds=seconds, train_seconds=seconds)
            continues = conductor.on_epoch(job.number, report)
            yield time.passed
    conductor.close()


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_of_the_wall_clock_neither_ends_a_budget_nor_stops_the_signs_of_life(time: Time, jump: float) -> None:
    """The budget of eight hours ends after eight hours; the display, GPU-hours, the report and MLflow's times agree."""
    storage, spec = InMemoryStorage(), a_spec()
    conductor = Conductor(create(storage, spec, time.clock()))
    for passed in train(conductor, time):
        if passed == 2 * HOUR:
            time.jumped = jump
        record = load_study(storage, "jumping")
        if conductor.ending is None:
            assert passed - 120 <= record.seconds <= passed, "a sign of life every minute"
            assert progress(record).elapsed == pytest.approx(passed)
            assert 0 <= (progress(record).left or 0) <= 8 * HOUR - passed
    assert record.ended == "budget.hours: reached the budget of 8 hours"
    assert [len(trial.epochs) for trial in record.trials] == [EPOCHS] * 3
    assert record.seconds == pytest.approx(time.passed)
    assert [span.seconds for span in spans(record)] == pytest.approx([EPOCHS * 600.0] * 3)
    assert account(record).wall == pytest.approx(time.passed)
    assert gpu_hours(record) == pytest.approx(8)
    stamps = [moment for trial in record.trials for moment in (trial.attempts[0].started, trial.finished)]
    assert stamps == sorted(stamps, key=lambda moment: moment or 0.0)


@pytest.mark.parametrize("jump", JUMPS)
def test_hours_add_up_over_drivers_whose_clocks_differ(time: Time, jump: float) -> None:
    """Three hours by one, the rest by another, hours of both machines' time later."""
    storage, spec = InMemoryStorage(), a_spec()
    first = Conductor(create(storage, spec, time.clock()))
    for passed in train(first, time):
        if passed == 3 * HOUR:
            break
    first.ledger.heartbeat()  # then it dies
    time.wait(5 * HOUR)
    time.jumped = jump
    second = Conductor(reopen(storage, spec, time.clock(booted=7.0)))
    for _ in train(second, time):
        pass
    record = load_study(storage, "jumping")
    assert record.seconds == pytest.approx(8 * HOUR, abs=600)
    assert gpu_hours(record) == pytest.approx(8, abs=0.2)
    assert account(record).wall == pytest.approx(8 * HOUR, abs=600)
    assert min(span.seconds for span in spans(record)) >= 0
    ends = [trial.finished for trial in record.trials if trial.finished]
    assert ends == sorted(ends)


def test_durations_of_an_earlier_version_whose_clock_jumped_are_not_negative() -> None:
    record = StudyRecord("old", a_spec(), {}, sessions=((EPOCH, EPOCH - HOUR), (EPOCH, EPOCH + 60)))
    assert record.seconds == 60
    assert ms_after(EPOCH - HOUR, EPOCH) == int(EPOCH * 1000)
    assert ms_after(EPOCH + HOUR, EPOCH) == int((EPOCH + HOUR) * 1000)
    assert ms_after(None, EPOCH) is None


# --------------------------------------------------------------------------------- those who watch


@pytest.mark.parametrize("ahead", [0.0, *JUMPS, 180.0, -180.0])
def test_a_running_study_is_shown_as_running_on_a_machine_with_another_clock(time: Time, ahead: float) -> None:
    """Only what the ledger says, and silence while one watches, can tell otherwise."""
    storage = InMemoryStorage()
    conductor = Conductor(create(storage, a_spec(), time.clock(ahead)))
    assert conductor.next_trial() is not None
    record = load_study(storage, "jumping")
    assert (record.driver, record.count("running")) == ("open", 1)
    assert not progress(record, LEASE_S - 1).over
    assert progress(record, LEASE_S - 1).deserted is None
    assert progress(record, LEASE_S + 1).deserted == "no heartbeat for 0:02:01"
    assert progress(record, 60).elapsed == pytest.approx(60)
    conductor.close()
    assert progress(load_study(storage, "jumping")).over


@pytest.mark.parametrize("ahead", [9 * HOUR, -9 * HOUR])
def test_watching_ends_after_silence_whatever_the_clock_of_the_driver_says(
    monkeypatch: pytest.MonkeyPatch, home: Home, time: Time, ahead: float
) -> None:
    """Between two trials the driver dies."""
    storage = InMemoryStorage()
    ledger = create(storage, a_spec(), time.clock(ahead))
    monkeypatch.setattr(watch, "open_existing", lambda home, name: storage)
    monkeypatch.setattr(watch.time, "monotonic", lambda: time.passed)
    monkeypatch.setattr(watch.time, "sleep", time.wait)
    time.meanwhile = lambda: ledger.heartbeat() if time.passed in (30, 60) else None
    readings = list(watch._readings(home, "jumping", 2.0))
    assert readings[0].silent == time.passed
    assert len({reading.changed for reading in readings}) == 3
    assert time.passed == 60 + LEASE_S + 2


@pytest.mark.parametrize("ahead", [9 * HOUR, -9 * HOUR])
def test_status_says_that_a_driver_of_this_machine_has_died_and_never_guesses_by_a_clock(
    home: Home, time: Time, ahead: float, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = open_storage(home.ledger_url)
    elsewhere = Lease("token", "another-host", 4711, "/elsewhere")
    ledger = Ledger.create(storage, a_spec(), {}, lease=elsewhere, clock=time.clock(ahead))
    begin(ledger)
    show_study(home, "jumping", as_json=False)
    shown = capsys.readouterr().out
    assert "1 trial: 1 running" in shown
    assert "died" not in shown
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        dead = Lease("token", "this-host", child.pid, "/elsewhere", fingerprint(os.getpid()))
    storage.set_study_user_attr(ledger._study._study_id, HOLDER_KEY, dead.stored(time.wall()))
    show_study(home, "jumping", as_json=False)
    assert "its driver has died; continue with: hpo resume jumping --home" in capsys.readouterr().out


def test_a_study_that_nobody_runs_is_shown_with_the_command_that_continues_it() -> None:
    import dataclasses

    home = Home(Path("/my home"))
    for driver, said in (("none", "no driver runs it"), ("dead", "its driver has died")):
        console = Console(width=80, height=24, file=io.StringIO(), color_system=None)
        console.print(Screen(dataclasses.replace(busy(0), driver=driver), home))  # type: ignore[arg-type]
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert f"{said}; continue with:\n         hpo resume cifar10_b0 --home '/my home'\n" in shown
