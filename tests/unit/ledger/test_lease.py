"""Two drivers on one database. Their clocks may differ: only what changes while one watches shows life."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from hpo.errors import InfrastructureError, UsageError
from hpo.ledger.attributes import HOLDER_KEY
from hpo.ledger.lock import LEASE_S, Lease
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from hpo.ledger.tables.claim import Claim
from hpo.ledger.writer import Ledger
from hpo.processes import fingerprint
from tests.conftest import synthetic_spec
from tests.support.clocks import HOUR, Time
from tests.support.leases import SPEC, begin, elsewhere, refuse_every_write, take_over
from trainers.api import EpochMetrics

DIFFERENCES = [0.0, 180.0, -180.0, 9 * HOUR, -9 * HOUR]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], BaseStorage]:
    """Opens the same database for one driver after the other."""
    if request.param == "sqlite":
        return lambda: open_storage(f"sqlite:///{tmp_path / 'ledger.db'}")
    memory = InMemoryStorage()
    return lambda: memory


@pytest.mark.parametrize("ahead", DIFFERENCES)
def test_a_living_driver_keeps_its_study_whatever_the_clock_of_another_says(
    opened: Callable[[], BaseStorage], ahead: float
) -> None:
    """The other watches for a while, says so, and names the driver."""
    time, said = Time(), list[str]()
    first = Ledger.create(opened(), SPEC, {}, lease=elsewhere(), clock=time.clock())
    time.wait(1_000)

    def live() -> None:
        if time.passed % 30 == 0:
            first.heartbeat()

    time.meanwhile = live
    with pytest.raises(UsageError, match="'leased' is being run by process 4711 on another-host"):
        Ledger.open(opened(), "leased", lease=Lease.here("/here"), clock=time.clock(ahead), say=said.append)
    assert said == ["waiting up to 120 s to see whether process 4711 on another-host still runs the study 'leased'"]
    assert time.passed - 1_000 <= 32, "as soon as there is a sign of life"
    begin(first)


@pytest.mark.parametrize("ahead", DIFFERENCES)
def test_a_dead_driver_loses_its_study_after_it_was_watched(opened: Callable[[], BaseStorage], ahead: float) -> None:
    """The time of both drivers adds up, and the stamps of the study are in order."""
    time, said = Time(), list[str]()
    first = Ledger.create(opened(), SPEC, {}, lease=elsewhere(), clock=time.clock())
    begin(first)
    time.wait(100)
    first.record(0, EpochMetrics(epoch=1, val_accuracy=0.5), None)
    first.heartbeat()
    time.wait(5)
    second = Ledger.open(opened(), "leased", lease=Lease.here("/here"), clock=time.clock(ahead), say=said.append)
    assert time.passed == 105 + LEASE_S
    assert len(said) == 1
    second.resume(0)
    time.wait(50)
    second.finish(0, Outcome(Ending.FAILED, "diverged"))
    second.close()
    study = load_study(opened(), "leased")
    assert study.seconds == pytest.approx(150)
    (one,) = study.trials
    assert one.attempts[0].ended == one.epochs[0].recorded, "when it was last known to train"
    assert one.finished is not None
    assert one.finished - one.attempts[1].started == pytest.approx(50)
    assert one.attempts[0].ended <= one.attempts[1].started


def test_the_time_of_a_wait_for_a_dead_driver_is_not_waited_twice(opened: Callable[[], BaseStorage]) -> None:
    time = Time()
    Ledger.create(opened(), SPEC, {}, lease=elsewhere(), clock=time.clock())
    take_over(opened(), time)
    assert time.passed == LEASE_S


def test_an_ended_driver_is_not_waited_for(opened: Callable[[], BaseStorage]) -> None:
    """Nor is one that ends while somebody watches it."""
    time = Time()
    Ledger.create(opened(), SPEC, {}, lease=elsewhere(), clock=time.clock()).close()
    second = Ledger.open(opened(), "leased", lease=elsewhere(), clock=time.clock())
    assert time.passed == 0
    assert begin(second) == 0
    time.meanwhile = second.close
    third = Ledger.open(opened(), "leased", lease=Lease.here("/here"), clock=time.clock())
    assert time.passed == 2
    assert third.trial(0).status == "interrupted", "what it wrote until its end is known"


def test_a_holder_whose_lock_this_process_has_is_certainly_dead() -> None:
    storage = InMemoryStorage()
    Ledger.create(storage, SPEC, {}, lease=Lease.here("/here"))
    Ledger.open(storage, "leased", lease=Lease.here("/here"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells processes apart")
def test_a_driver_whose_process_is_gone_is_not_waited_for() -> None:
    """It used another home folder of this machine. One that is alive is watched."""
    storage, time = InMemoryStorage(), Time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        dead = Lease("token", "this-host", child.pid, "/elsewhere", fingerprint(child.pid))
        Ledger.create(storage, SPEC, {}, lease=dead, clock=time.clock())
        assert load_study(storage, "leased").driver == "open"
    assert load_study(storage, "leased").driver == "dead"
    alive = Lease("another", "this-host", os.getpid(), "/elsewhere", fingerprint(os.getpid()))
    second = Ledger.open(storage, "leased", lease=alive, clock=time.clock())
    assert time.passed == 0
    time.meanwhile = second.heartbeat
    with pytest.raises(UsageError, match="is being run by process"):
        Ledger.open(storage, "leased", lease=Lease.here("/here"), clock=time.clock())


def test_a_driver_that_only_seemed_dead_can_write_nothing_any_more(tmp_path: Path) -> None:
    """Each way to write is refused in the transaction itself, so that nothing of it stays."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    refuse_every_write(lambda: open_storage(url))


def test_a_driver_that_seemed_dead_notices_in_memory_too() -> None:
    storage, time = InMemoryStorage(), Time()
    first = Ledger.create(storage, SPEC, {}, lease=elsewhere(), clock=time.clock())
    second = take_over(storage, time)
    with pytest.raises(InfrastructureError, match=r"took over the study 'leased'"):
        first.heartbeat()
    second.close()
    with pytest.raises(InfrastructureError, match=r"another driver, which has ended, took over the study 'leased'"):
        first.heartbeat()


def test_of_two_drivers_that_watched_the_same_dead_one_only_one_takes_over(opened: Callable[[], BaseStorage]) -> None:
    """The holder is replaced by the very statement that checks it."""
    Ledger.create(opened(), SPEC, {}, lease=elsewhere())
    quick, late = (
        Claim(storage, storage.get_study_id_from_name("leased"), HOLDER_KEY) for storage in (opened(), opened())
    )
    dead = quick.read()
    assert late.read() == dead
    assert quick.replace(dead, {"token": "quick"})
    assert not late.replace(dead, {"token": "late"})
    assert late.read() == {"token": "quick"}


def test_a_study_of_an_earlier_version_has_no_holder_to_replace(tmp_path: Path) -> None:
    """Its creation was cut off right before its first sign of life."""
    storage = open_storage(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger = Ledger.create(storage, synthetic_spec("leased"), {})
    ledger.close()
    import sqlite3

    with sqlite3.connect(tmp_path / "ledger.db") as file:
        file.execute("DELETE FROM study_user_attributes WHERE key = 'hpo:holder'")
    Ledger.open(storage, "leased").close()
    assert load_study(storage, "leased").driver == "none"
