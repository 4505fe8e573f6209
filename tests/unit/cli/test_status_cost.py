"""What `hpo status` of a large study costs: counted, not timed."""

from __future__ import annotations

import math
import subprocess
import sys

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage

from hpo.cli.display.status import show_study
from hpo.home import Home
from hpo.ledger.storage import open_storage
from hpo.ledger.tables.current import CurrentTables, is_current
from hpo.ledger.tables.reading import read_trials
from hpo.results import progress
from reports.benchmarks.large_study import specification, write


def statements(home: Home) -> int:
    """How many statements the status of the study sends."""
    sent: list[str] = []

    def note(*call: object) -> None:
        sent.append(str(call[2]))

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        show_study(home, "large", as_json=False)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
    return len(sent)


def written(home: Home, trials: int) -> Home:
    write(home, specification(trials), workers=10)
    return home


def test_a_status_sends_few_statements_however_many_trials_there_are(tmp_path):
    few, many = (statements(written(Home(tmp_path / str(trials)), trials)) for trials in (20, 200))
    assert few == many < 30


def test_a_status_estimates_no_time_that_it_does_not_show(tmp_path, monkeypatch):
    home = written(Home(tmp_path / "home"), 20)
    monkeypatch.setattr(progress, "time_left", lambda *anything: pytest.fail("every epoch was looked at"))
    show_study(home, "large", as_json=False)


def test_a_ledger_of_the_installed_version_is_opened_without_alembic(tmp_path):
    home = written(Home(tmp_path / "home"), 2)
    code = (
        "import sys; from hpo.ledger.storage import open_storage as f; f(sys.argv[1]); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, home.ledger_url], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_only_tables_of_the_installed_version_are_taken_for_current(tmp_path):
    storage = RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
    newest = storage.get_head_version()
    assert [version for version in storage.get_all_versions() if is_current(version)] == [newest]
    assert not is_current(None)
    assert not is_current("v99.0.0.a")
    opened = open_storage(storage.url)
    assert isinstance(opened, CurrentTables)
    assert opened.get_current_version() == newest
    assert opened.get_head_version() == newest, "what Optuna's own commands ask for works, too"


def test_tables_that_are_opened_as_they_are_have_all_that_optunas_storage_has(tmp_path):
    storage = RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
    assert [name for name in vars(storage) if not hasattr(open_storage(storage.url), name)] == []


def test_every_value_that_optuna_writes_is_read_as_optuna_reads_it(tmp_path):
    """Also half of a surrogate pair, which a file name may hold and which only Python's own reader takes."""
    values = ["half \udcff", "é", math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2**70, None]
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db")
    study = optuna.create_study(storage=storage)
    for value in values:
        study.ask().set_user_attr("mine", value)
    ours = [trial for _, trial in read_trials(storage, study._study_id)]
    theirs = study.get_trials()
    assert [repr(trial.user_attrs) for trial in ours] == [repr(trial.user_attrs) for trial in theirs]
    assert [trial.datetime_start for trial in ours] == [trial.datetime_start for trial in theirs]
