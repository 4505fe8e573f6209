"""Databases that are missing, of another version, on the wrong disk or out of reach are named with a remedy."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from hpo.cli.display.studies import newest, show_studies
from hpo.driver.conductor import Conductor
from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home
from hpo.ledger import attributes
from hpo.ledger.lock import LOCK, study_lock
from hpo.ledger.reader import load_study, open_existing, read_study
from hpo.ledger.sqlite import network_file_system, network_warning
from hpo.ledger.storage import open_storage
from hpo.ledger.test_set_log import record_evaluation, record_retraining
from hpo.ledger.writer import Ledger
from hpo.sqlite_urls import sqlite_file, sqlite_url
from hpo.tracking.preflight import check_store
from hpo.tracking.runs import make_store
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, steps

SPEC = synthetic_spec("kept", extra={"light": True})


@pytest.fixture
def ledger(home: Home) -> Ledger:
    """A study that has just begun, in the default database of the home folder."""
    home.study("kept").mkdir(parents=True)
    return create(open_storage(home.ledger_url), SPEC)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_is_removed_under_a_study_stops_it(
    home: Home, ledger: Ledger, tmp_path: Path, replaced: bool
) -> None:
    """SQLite itself would continue to write to the removed file until the study ends, or begin an empty database."""
    conductor = Conductor(ledger)
    rounds = steps(conductor, tmp_path)
    next(rounds)
    (home.path / "optuna.db").rename(tmp_path / "backup.db")
    if replaced:
        (home.path / "optuna.db").touch()
    for _ in rounds:
        pass
    word = "replaced" if replaced else "removed"
    with pytest.raises(InfrastructureError, match=rf"optuna\.db was {word} while in use; put it back"):
        conductor.close()
    assert (home.path / "optuna.db").exists() == replaced, "no new database was begun"
    (tmp_path / "backup.db").rename(home.path / "optuna.db")
    again = Ledger.open(open_storage(home.ledger_url), "kept")
    assert {trial.status for trial in again.trials if trial.started} == {"interrupted"}


def test_a_database_that_is_missing_before_a_resume_is_named(home: Home, ledger: Ledger, tmp_path: Path) -> None:
    """This holds for the default database and for another one. No new database is created in its place."""
    (home.path / "optuna.db").unlink()
    with pytest.raises(InfrastructureError, match=rf"'kept', {home.path}/optuna\.db, is missing; put it back"):
        open_existing(home, "kept")
    other = tmp_path / "other.db"
    home.remember_ledger("kept", f"sqlite:///{other}")
    with pytest.raises(InfrastructureError, match=rf"'kept', {other}, is missing"):
        open_existing(home, "kept")
    assert not other.exists()
    with pytest.raises(UsageError, match="no study was run"):
        open_existing(home, "never")


@pytest.mark.parametrize("others", [False, True])
def test_a_study_that_is_starting_is_not_taken_for_one_that_lost_its_ledger(home: Home, others: bool) -> None:
    """The study's folder is made before its record. A killed start leaves the lock file with its process in it."""
    if others:
        create(open_storage(home.ledger_url), SPEC).close()
    lock = home.study("late") / LOCK
    with study_lock(home.study("late")):
        for command in (lambda: open_existing(home, "late"), lambda: newest(home)):
            with pytest.raises(UsageError, match=rf"'late' is starting .* \(process {os.getpid()} on "):
                command()
        left = lock.read_bytes()
    lock.write_bytes(left)
    with pytest.raises(UsageError, match=r"the start of the study 'late' ended before .*; run the same command again"):
        open_existing(home, "late")
    (home.study("late") / "best.yaml").touch()
    with pytest.raises((UsageError, InfrastructureError), match="there is no study" if others else "put it back"):
        read_study(home, "late")


def test_the_newest_study_is_found_without_reading_any_trial(
    home: Home, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = SPEC.model_copy(update={"study": "later"})
    Ledger.create(open_storage(home.ledger_url), later, {"created": 2.0}).close()
    monkeypatch.setattr("hpo.ledger.reader.read_trials", None)
    assert newest(home) == "later"


def test_a_study_elsewhere_that_is_starting_hides_no_other_study(
    home: Home, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with study_lock(home.study("late")):
        home.remember_ledger("late", sqlite_url(tmp_path / "other.db"))
        show_studies(home, as_json=True)
    shown = capsys.readouterr()
    assert [study["study"] for study in json.loads(shown.out)] == ["kept"]
    assert "note: the study 'late' is starting" in shown.err


def test_a_file_that_is_not_a_database_is_named(home: Home) -> None:
    (home.path / "optuna.db").write_bytes(b"something else" * 1000)
    with pytest.raises(InfrastructureError, match="file is not a database"):
        open_existing(home)


def test_a_database_of_an_older_optuna_names_the_command_that_upgrades_it(home: Home, ledger: Ledger) -> None:
    """The database of Optuna 3.0 lacks an index that Optuna 3.2 added."""
    with sqlite3.connect(home.path / "optuna.db") as database:
        database.execute("DROP INDEX ix_trials_study_id")
        database.execute("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    with pytest.raises(InfrastructureError, match="the schema of an older Optuna") as refused:
        open_existing(home)
    program, *arguments = str(refused.value).partition("then: ")[2].split()
    assert program == "optuna"
    subprocess.run([Path(sys.executable).with_name(program), *arguments], check=True, capture_output=True)
    assert load_study(open_existing(home), "kept").name == "kept"


def test_a_database_of_a_newer_optuna_names_the_upgrade_of_optuna(home: Home, ledger: Ledger) -> None:
    with sqlite3.connect(home.path / "optuna.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with pytest.raises(InfrastructureError, match=r"the schema of a newer Optuna.*pip install --upgrade optuna"):
        open_existing(home)


@pytest.mark.parametrize(("schema", "word", "command"), [(0, "older", "=="), (attributes.SCHEMA + 1, "newer", ">=")])
def test_a_ledger_of_another_version_of_this_tool_names_the_version(
    home: Home, ledger: Ledger, schema: int, word: str, command: str
) -> None:
    ledger._study.set_user_attr(attributes.SCHEMA_KEY, schema)
    ledger._study.set_user_attr(attributes.INFO_KEY, {"versions": {"hpo-efficientnetv2": "7.8"}})
    with pytest.raises(InfrastructureError, match=f"{word} version of this tool") as refused:
        load_study(open_existing(home), "kept")
    assert f"'hpo-efficientnetv2{command}7.8'" in str(refused.value)


def test_a_specification_that_cannot_be_read_names_the_version(home: Home, ledger: Ledger) -> None:
    ledger._study.set_user_attr(attributes.SPEC_KEY, '{"study": "kept", "settings_to_come": 1}')
    with pytest.raises(InfrastructureError, match="was written by another version of this tool"):
        load_study(open_existing(home), "kept")


def test_an_open_ledger_holds_the_retrainings_that_every_reader_sees(home: Home, ledger: Ledger) -> None:
    """Without them a driver would delete the MLflow runs of the retrainings."""
    storage = open_storage(home.ledger_url)
    record_evaluation(storage, ledger.name, "command/0", {"trial": 0})
    record_retraining(storage, ledger.name, {"trial": 0, "test_accuracy": 0.5})
    read = load_study(storage, ledger.name).info
    assert len(read["retrainings"]) == len(read["test_set_evaluations"]) == 1
    assert Ledger.open(storage, ledger.name).study.info == read


def test_a_database_of_another_mlflow_names_the_upgrade(home: Home) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=home.mlflow_url).search_experiments()
    for version, command in (("cc1f77228345", "mlflow db upgrade sqlite:"), ("ffffffffffff", "--upgrade mlflow")):
        path = home.path / f"{version}.db"  # MLflow keeps what it has opened once
        shutil.copy(home.path / "mlflow.db", path)
        with sqlite3.connect(path) as database:
            database.execute("UPDATE alembic_version SET version_num = ?", (version,))
        with pytest.raises(InfrastructureError, match=command):
            check_store(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("url", "said", "error"),
    [
        ("postgresql+psycopg://me:s3@cret@127.0.0.1:1/db", "cannot be opened", InfrastructureError),
        ("postgresql+psycopg://me:s3cret@host.invalid/db", "cannot be opened", InfrastructureError),
        ("sqlite:////nowhere/at/all/optuna.db", "unable to open database file", InfrastructureError),
        ("nosuch://me:s3cret@host/db", "cannot be used", UsageError),
        ("no url", "cannot be used", UsageError),
    ],
)
def test_a_ledger_that_cannot_be_reached_is_named_without_its_password(
    url: str, said: str, error: type[Exception]
) -> None:
    pytest.importorskip("psycopg", reason="psycopg, the PostgreSQL driver, is not installed")
    with pytest.raises(error, match=said) as refused:
        open_storage(url)
    assert "cret" not in str(refused.value)
    assert "\n" not in str(refused.value).strip()


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /home nfs4 rw,vers=4.2 0 0
//server/share /mnt/with\\040space cifs rw 0 0
tmpfs /home/me/local tmpfs rw 0 0
remote /mnt/sshfs fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:////home/me/runs/optuna.db", "nfs4"),
        ("sqlite:////home/me/local/optuna.db", None),
        ("sqlite:////mnt/with space/optuna.db?timeout=3", "cifs"),
        ("sqlite:////mnt/sshfs/optuna.db", "fuse.sshfs"),
        ("sqlite:////homely/optuna.db", None),
        ("sqlite:///:memory:", None),
        ("postgresql://host/db", None),
    ],
)
def test_network_file_systems_are_recognised(url: str, kind: str | None) -> None:
    assert network_file_system(url, MOUNTS) == kind
    if kind:
        assert "storage.ledger=postgresql" in network_warning(kind)


def test_the_write_ahead_log_is_left_out_on_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log needs memory that processes share, which no network file system has."""
    for kind, mode in ((None, "wal"), ("nfs4", "delete")):
        monkeypatch.setattr("hpo.ledger.sqlite.network_file_system", lambda url, kind=kind: kind)
        path = tmp_path / f"{mode}.db"
        optuna.create_study(storage=open_storage(f"sqlite:///{path}"))
        assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == (mode,)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////a/b.db?x=1", Path("/a/b.db")),
        ("sqlite+pysqlite:///b.db", Path("b.db")),
        ("sqlite:///file:b.db?uri=true", None),
        ("sqlite://", None),
    ],
)
def test_an_sqlite_url_gives_the_file_of_its_database(url: str, path: Path | None) -> None:
    assert sqlite_file(url) == path


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
@settings(deadline=None)
def test_the_url_of_an_sqlite_file_gives_the_file_again(name: str) -> None:
    file = Path("/", name, "optuna.db")
    assert sqlite_file(sqlite_url(file)) == file


def test_the_databases_of_a_home_folder_lie_in_it_whatever_its_name(tmp_path: Path) -> None:
    name = "what?x=1 %20%2F #&;:@ ün {SCHEMA_VERSION} '\"\\ \n[x]*"
    home = Home.at(tmp_path / name).create()
    open_storage(home.ledger_url)
    make_store(home)
    check_store(home.mlflow_url)
    assert {"optuna.db", "mlflow.db"} <= {file.name for file in home.path.iterdir()}
    assert [folder.name for folder in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("mode", [0o2775, 0o777, 0o750])
def test_a_folder_that_exists_keeps_its_mode_as_a_home(mode: int, tmp_path: Path) -> None:
    folder = tmp_path / "team"
    folder.mkdir()
    folder.chmod(mode)
    assert Home.at(folder).create().path.stat().st_mode & 0o7777 == mode


def test_a_new_home_folder_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "above" / "home").create().create()
    assert home.path.stat().st_mode & 0o777 == 0o700
    home.study("kept").mkdir(parents=True)
    home.remember_ledger("kept", "postgresql://me:s3cret@host/db")
    assert (home.study("kept") / "ledger.url").stat().st_mode & 0o777 == 0o600


def test_a_home_folder_that_cannot_be_created_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="choose another folder with --home"):
        Home.at(tmp_path / "file" / "home").create()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../etc", "/etc", "", "-rf", "a b", "a\n", "é", "x" * 65, "a.b"])
def test_a_name_that_leads_out_of_the_home_folder_is_refused(home: Home, name: str) -> None:
    with pytest.raises(UsageError, match="is not a study name"):
        home.study(name)
    assert os.listdir(home.path) == []


def test_tables_that_another_process_is_making_are_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, collisions = optuna.storages.RDBStorage, 2

    def storage(*arguments: Any, **named: Any) -> Any:
        nonlocal collisions
        if collisions:
            collisions -= 1
            raise OperationalError("CREATE TABLE trials", {}, Exception("table trials already exists"))
        return made(*arguments, **named)

    monkeypatch.setattr(optuna.storages, "RDBStorage", storage)
    monkeypatch.setattr("hpo.ledger.storage.PAUSE_S", 0.0)
    assert open_storage(sqlite_url(tmp_path / "optuna.db")).get_all_studies() == []
    assert collisions == 0
