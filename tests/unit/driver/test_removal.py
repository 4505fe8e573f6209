"""A removed study is gone everywhere, half a removal is completed, and nothing of another study goes with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from hpo.driver.steering import removal as module
from hpo.driver.steering.removal import removal
from hpo.driver.steering.renaming import rename
from hpo.errors import UsageError
from hpo.home import Home, confirmation_of
from hpo.ledger.lock import Lease, study_lock
from hpo.ledger.reader import last_holder, load_study, study_names
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import finish


def spec_of(name: str, **changes: Any) -> Spec:
    return synthetic_spec(name, budget={"trials": 2}, tracking={"enabled": False}, **changes)


def make(home: Home, name: str, *, confirmed: bool = False, **changes: Any) -> Ledger:
    """A study that has ended, perhaps with a confirmation."""
    storage, spec = open_storage(home.ledger_url), spec_of(name, **changes)
    home.study(name).mkdir(parents=True, exist_ok=True)
    lease = Lease.here(str(home.study(name)))
    ledger = Ledger.create(storage, spec, {}, study_sampler(spec), lease)
    finish(ledger, Path(home.checkpoints(name, spec.storage.checkpoints)))
    if confirmed:
        Ledger.create(open_storage(home.ledger_url), spec, {}, None, lease, name=confirmation_of(name)).close()
        home.study(confirmation_of(name)).mkdir()
    return ledger


def remove(home: Home, name: str) -> list[str]:
    with removal(name, home) as remains:
        lines = list(remains.lines())
        remains.remove()
    return lines


def rows(home: Home) -> dict[str, int]:
    """Number of rows of each of Optuna's tables."""
    import sqlite3

    with sqlite3.connect(home.path / "optuna.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def test_a_removed_study_leaves_no_row_and_no_file_and_takes_nothing_of_another(home: Home) -> None:
    make(home, "kept")
    before, files = rows(home), sorted(home.study("kept").rglob("*"))
    kept = load_study(open_storage(home.ledger_url), "kept")
    make(home, "gone", confirmed=True, warm_start=[])
    lines = remove(home, "gone")
    assert lines[0] == f"{confirmation_of('gone')}: 0 trials"
    assert lines[1] == "gone: 2 trials"
    assert rows(home) == before
    assert not home.study("gone").exists()
    assert sorted(home.study("kept").rglob("*")) == files
    assert load_study(open_storage(home.ledger_url), "kept") == kept


def test_checkpoints_elsewhere_go_too_and_those_of_others_stay(home: Home, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    for name in ("gone", "kept"):
        make(home, name, storage={"checkpoints": str(root), "keep": "all"})
    assert list((root / "gone").rglob("*"))
    remove(home, "gone")
    assert not list((root / "gone").rglob("*"))
    assert list((root / "kept").rglob("*"))


def test_a_study_that_a_driver_runs_is_not_removed(home: Home) -> None:
    make(home, "busy")
    with (
        study_lock(home.study("busy")),
        pytest.raises(UsageError, match="is being run by process"),
        removal("busy", home),
    ):
        pass
    assert study_names(open_storage(home.ledger_url)) == ["busy"]


def test_a_study_that_stays_is_held_by_nobody(home: Home) -> None:
    make(home, "asked")
    with removal("asked", home):
        pass
    storage = open_storage(home.ledger_url)
    assert last_holder(storage, "asked") is None
    assert load_study(storage, "asked").driver == "none"


@pytest.mark.parametrize("step", ["remove_study", "rmtree"])
def test_half_a_removal_is_completed_by_a_second_one(home: Home, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    make(home, "half", confirmed=True)
    with monkeypatch.context() as patch:
        if step == "rmtree":
            patch.setattr(shutil, "rmtree", _die)
        else:
            patch.setattr(module, "remove_study", _die)
        with pytest.raises(KeyboardInterrupt), removal("half", home) as remains:
            remains.remove()
    remove(home, "half")
    assert not home.study("half").exists()
    assert study_names(open_storage(home.ledger_url)) == []
    with pytest.raises(UsageError, match="there is no study named 'half' here"), removal("half", home):
        pass


def _die(*ignored: object, **options: object) -> None:
    raise KeyboardInterrupt


def test_the_name_of_a_removed_study_is_free(home: Home) -> None:
    make(home, "again")
    remove(home, "again")
    make(home, "again")
    assert len(load_study(open_storage(home.ledger_url), "again").trials) == 2


def test_studies_that_started_from_a_removed_one_are_named(home: Home) -> None:
    make(home, "source")
    make(home, "heir", warm_start=["source"])
    with removal("source", home) as remains:
        assert "warm_start of heir names it; what they took over stays theirs" in list(remains.lines())


def test_a_confirmation_is_removed_with_its_study_only(home: Home) -> None:
    with pytest.raises(UsageError, match="belongs to a; remove both with `hpo rm a"), removal("a.confirmation", home):
        pass


def test_a_home_folder_that_does_not_exist_is_an_error_of_whoever_typed_it(tmp_path: Path) -> None:
    nowhere = Home.at(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no study was run in"), removal("nobody", nowhere):
        pass
    with pytest.raises(UsageError, match="no study was run in"):
        rename("nobody", "somebody", nowhere)
    assert not nowhere.path.exists()
