"""Which database a URL means, and whose tables it holds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hpo.databases import Owner, owner, same_database

NOBODY = "127.0.0.1:1"
"""No server answers there, so the URLs alone are compared."""


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@127.0.0.1:1/studies",
        "postgresql+psycopg2://me@127.0.0.1:1/studies",
        "postgresql+psycopg://other:word@localhost:1/studies",
        "postgresql+psycopg://me@[::1]:1/studies",
        "postgresql+psycopg://me@127.0.0.1:1/studies?connect_timeout=5",
        "postgresql+psycopg://me@/studies?host=/tmp/nowhere&port=1",
        "postgresql+psycopg://me@LOCALHOST:1/studies?sslmode=disable",
    ],
)
def test_other_spellings_of_one_database_are_recognised(url: str) -> None:
    assert same_database(f"postgresql+psycopg://me@{NOBODY}/studies", url)
    assert same_database(url, f"postgresql+psycopg://me@{NOBODY}/studies")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me@127.0.0.1:1/mlflow",
        "postgresql+psycopg://me@127.0.0.1:2/studies",
        "postgresql+psycopg://me@database.invalid:1/studies",
        "mysql+pymysql://me@127.0.0.1:1/studies",
        "sqlite:////tmp/studies",
        "http://127.0.0.1:1/studies",
        "databricks",
        "./mlruns",
    ],
)
def test_other_databases_are_not_the_same(url: str) -> None:
    assert not same_database(f"postgresql+psycopg://me@{NOBODY}/studies", url)


def test_the_usual_port_of_a_server_need_not_be_written() -> None:
    assert same_database("mysql+pymysql://me@localhost/studies", "mysql+mysqldb://me@127.0.0.1:3306/studies")


def test_one_sqlite_file_is_recognised_by_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "one.db"
    (tmp_path / "link").symlink_to(tmp_path)
    urls = ["sqlite:///one.db", "sqlite:///./link/one.db", f"sqlite+pysqlite:///{file}?timeout=5"]
    urls.append(f"sqlite:///file:{file}?mode=rw&uri=true")
    for exists in (False, True):
        if exists:
            file.touch()
            (tmp_path / "hard.db").hardlink_to(file)
            urls.append("sqlite:///hard.db")
        for url in urls:
            assert same_database(f"sqlite:///{file}", url), url
            assert not same_database(f"sqlite:///{tmp_path}/two.db", url), url


@pytest.mark.parametrize(
    ("versions", "tables", "held_by"),
    [
        (["v3.2.0.a"], ["studies", "trials"], Owner.OPTUNA),
        (["v99.0.0.a"], [], Owner.OPTUNA),
        (["cc1f77228345"], ["experiments", "runs"], Owner.MLFLOW),
        (["cc1f77228345"], ["dag_run"], Owner.OTHER),
        ([], ["studies", "trials"], Owner.OPTUNA),
        ([], ["something"], None),
    ],
)
def test_the_tables_of_a_database_tell_whose_it_is(
    tmp_path: Path, versions: list[str], tables: list[str], held_by: Owner | None
) -> None:
    with sqlite3.connect(tmp_path / "some.db") as database:
        for table in tables:
            database.execute(f"CREATE TABLE {table} (x)")
        database.execute("CREATE TABLE alembic_version (version_num)")
        database.executemany("INSERT INTO alembic_version VALUES (?)", [(version,) for version in versions])
    assert owner(f"sqlite:///{tmp_path}/some.db") == held_by


def test_a_file_that_does_not_exist_is_nobodys_and_is_not_created(tmp_path: Path) -> None:
    assert owner(f"sqlite:///{tmp_path}/none.db") is None
    assert list(tmp_path.iterdir()) == []
