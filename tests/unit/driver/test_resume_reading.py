"""How much of a ledger a resume reads before its study runs; and what happens if the study changes meanwhile."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from hpo.driver import run
from hpo.driver.conductor import Conductor
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.lock import Lease
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, finish, steps
from tests.support.leases import elsewhere
from trainers.api import EpochMetrics


class Blind:
    """A view that shows nothing."""

    def begin(self, study: StudyRecord) -> None:
        """Nothing."""

    def __call__(self, event: object) -> None:
        """Nothing."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Ledger]:
    """The ledgers that `resume` opens, without Ray and without training."""
    ledgers: list[Ledger] = []

    def drive(ledger: Ledger, *ignored: object) -> StudyRecord:
        ledgers.append(ledger)
        return ledger.study

    monkeypatch.setattr(run, "ray_session", lambda *ignored: nullcontext())
    monkeypatch.setattr(run, "plan_slots", lambda spec, packing: None)
    monkeypatch.setattr(run, "drive", drive)
    return ledgers


@pytest.fixture
def readings() -> Iterator[list[str]]:
    """The statements that read the parameters of many trials."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *ignored: Any) -> None:
        if re.search(r"\b(FROM|JOIN) trial_params\b", statement):
            seen.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    yield seen
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)


def recorded(home: Home, budget: dict[str, object], folder: Path) -> Spec:
    """A study of four trials that was stopped at once, or has ended."""
    spec = synthetic_spec("again", extra={"light": True}, budget={"trials": 4} | budget, tracking={"enabled": False})
    home.study("again").mkdir(parents=True)
    conductor = Conductor(create(open_storage(home.ledger_url), spec))
    for _ in zip(range(3), steps(conductor, folder), strict=False):
        pass
    conductor.close()
    return spec


def resumed(home: Home) -> StudyRecord:
    return run.resume("again", home, view=Blind(), changes=lambda spec: spec)


def test_a_resume_reads_the_trials_once(home: Home, opened: list[Ledger], readings: list[str], tmp_path: Path) -> None:
    recorded(home, {}, tmp_path)
    readings.clear()
    resumed(home)
    assert len(readings) == 1
    (ledger,) = opened
    finish(ledger, tmp_path)
    assert ledger.study.count("interrupted") == 0
    stored = load_study(open_storage(home.ledger_url), "again")
    assert stored == dataclasses.replace(ledger.study, driver="none")


def test_a_resume_of_a_study_with_a_spent_budget_reads_the_trials_once(
    home: Home, opened: list[Ledger], readings: list[str], tmp_path: Path
) -> None:
    """A target needs the best trial; nothing is trained."""
    spec = recorded(home, {"target": 0.01}, tmp_path)
    ledger = Ledger.open(open_storage(home.ledger_url), "again")
    finish(ledger, tmp_path)
    assert ledger.study.best is not None
    readings.clear()
    study = resumed(home)
    assert len(readings) == 1
    assert study.ended is not None
    assert study.ended.startswith("budget.target")
    assert study.spec == spec
    assert not opened


def test_a_study_that_another_driver_trained_since_it_was_read_is_not_taken_over(tmp_path: Path) -> None:
    """It has another home folder and has ended, so nobody holds the study; what was read is out of date."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    create(open_storage(url), synthetic_spec("again", enqueue=[])).close()
    early = Ledger.read(open_storage(url), "again", Lease.here("/here"))
    other = Ledger.open(open_storage(url), "again", lease=elsewhere())
    conductor = Conductor(other)
    assignment = conductor.next_trial()
    assert assignment is not None
    conductor.on_epoch(assignment.number, EpochMetrics(epoch=1, val_accuracy=0.5))
    conductor.close()
    before = load_study(open_storage(url), "again")
    with pytest.raises(UsageError, match="another driver, which was faster"):
        early.take_over(None)
    assert load_study(open_storage(url), "again") == before
