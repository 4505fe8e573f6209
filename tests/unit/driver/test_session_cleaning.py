"""What one driver tells the next of the checkpoints that it cleaned up."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from hpo.driver import listeners, session
from hpo.driver.conductor import Conductor
from hpo.home import Home
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, reopen, steps


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that drivers of this process look into, which train without Ray; "all" for a listing of all."""

    def tune(conductor: Conductor, home: Home, slots: object, checkpoints: str, verbose: bool) -> None:
        for _ in steps(conductor, Path(checkpoints)):
            pass

    seen: list[str] = []

    def drop(store: Any, *, keep_last: bool) -> None:
        seen.append(store._root.rpartition("/")[2])

    monkeypatch.setattr(session, "tune", tune)
    monkeypatch.setattr(session, "Watchdog", lambda *ignored: nullcontext())
    monkeypatch.setattr(listeners.DirectoryStore, "drop", drop)
    monkeypatch.setattr(listeners, "stored_files", lambda folder: seen.append("all") or {})
    return seen


def drive(ledger: Ledger, home: Home) -> None:
    signals: Any = SimpleNamespace(
        watch=lambda stop: None, received=None, finish_and_exit=None, interruption=lambda: None
    )
    session.drive(ledger, home, MagicMock(), lambda event: None, signals, verbose=False, mlflow=MagicMock())


def test_a_resume_looks_at_no_checkpoints_of_ended_trials_that_were_cleaned_up(home: Home, looks: list[str]) -> None:
    """Unless `storage.keep` is another one now; then what ended before keeps other checkpoints."""
    spec = synthetic_spec("tidy", extra={"light": True}, budget={"trials": 3}, tracking={"enabled": False})
    drive(create(open_storage(home.ledger_url), spec), home)
    assert sorted(looks) == ["00000", "00001", "00002"]
    looks.clear()
    ledger = reopen(open_storage(home.ledger_url), spec)
    ledger.respecify(spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": 4})}))
    drive(ledger, home)
    assert looks == ["00003"]
    looks.clear()
    ledger = reopen(open_storage(home.ledger_url), spec)
    ledger.respecify(spec.model_copy(update={"storage": spec.storage.model_copy(update={"keep": "unfinished"})}))
    drive(ledger, home)
    assert looks == ["all"]
