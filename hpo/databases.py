"""Which database a URL means, and whose tables it holds. Reads only; creates nothing.

Optuna and MLflow each keep a table `alembic_version`. In one database the second of them takes the first one's for its
own, so both are asked for before either writes.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

LOCK_TIMEOUT_S = 60
"""How long a statement waits for another process that holds SQLite's lock."""
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433, "oracle": 1521}
"""Each server's own port, by SQLAlchemy's name of its dialect."""
IDENTITIES = {
    "postgresql": "SELECT concat_ws('|', extract(epoch FROM pg_postmaster_start_time()), current_database(), "
    "current_schema())",
    "mysql": "SELECT concat_ws('|', @@server_uuid, database())",
}
"""Queries whose answer tells one set of tables from all others, however it is reached."""


class Owner(enum.Enum):
    """The program whose tables a database holds."""

    OPTUNA = "Optuna"
    MLFLOW = "MLflow"
    OTHER = "another program"


def owner(url: str) -> Owner | None:
    """Whose tables the database holds; None if it has none or is a file that does not exist.

    Raises:
        As `tables`.
    """
    return tables(url)[0]


def tables(url: str) -> tuple[Owner | None, str | None]:
    """The same, and the version of the tables, which Alembic records; None if it has none.

    Raises:
        SQLAlchemyError, ImportError: the database cannot be reached.
    """
    import sqlalchemy

    if (file := _file(sqlalchemy.make_url(url))) is not None and not file.exists():
        return None, None
    engine = _engine(url)
    with engine.connect() as connection:
        there = sqlalchemy.inspect(connection)
        versions: list[str] = []
        if there.has_table("alembic_version"):
            versions += connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalars()
        version = versions[0] if len(versions) == 1 else None
        if any(re.match(r"v\d+\.\d+\.", one) for one in versions) or (
            not versions and there.has_table("studies") and there.has_table("trials")
        ):
            return Owner.OPTUNA, version
        if not versions:
            return None, None
        return (Owner.MLFLOW if there.has_table("experiments") and there.has_table("runs") else Owner.OTHER), version


def same_database(first: str, second: str) -> bool:
    """Whether two URLs mean the same tables. A text that is no URL of a database means none.

    The servers are asked, because names, sockets, tunnels and search paths say little. Where one does not answer, the
    URLs are compared by host, port and database.
    """
    import sqlalchemy
    import sqlalchemy.exc

    try:
        one, two = sqlalchemy.make_url(first), sqlalchemy.make_url(second)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: the port is no number
        return False
    if _dialect(one) != _dialect(two):
        return False
    if _dialect(one) == "sqlite":
        files = _file(one), _file(two)
        return None not in files and _same_file(*files)  # type: ignore[arg-type]
    identities = _identity(first, _dialect(one)), _identity(second, _dialect(two))
    if None not in identities:
        return identities[0] == identities[1]
    return _place(one) == _place(two)


def _engine(url: str) -> Engine:
    import sqlalchemy
    import sqlalchemy.pool

    patience = {"connect_args": {"timeout": LOCK_TIMEOUT_S}} if url.startswith("sqlite") else {}
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, **patience)


def _dialect(url: URL) -> str:
    name = url.drivername.partition("+")[0]
    return {"mariadb": "mysql", "postgres": "postgresql"}.get(name, name)


def _file(url: URL) -> Path | None:
    """The file of an SQLite database; None for one in memory or on a server."""
    if _dialect(url) != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    assert url.database is not None
    return Path(unquote(urlsplit(url.database).path) if url.database.startswith("file:") else url.database)


def _same_file(one: Path, two: Path) -> bool:
    if one.exists() and two.exists():
        return one.samefile(two)  # also through links
    return os.path.realpath(one) == os.path.realpath(two)


def _identity(url: str, dialect: str) -> str | None:
    """The server's answer to the query of `IDENTITIES`; None where it gives none."""
    import sqlalchemy
    import sqlalchemy.exc

    if dialect not in IDENTITIES:
        return None
    try:
        with _engine(url).connect() as connection:
            return str(connection.execute(sqlalchemy.text(IDENTITIES[dialect])).scalar())
    except (sqlalchemy.exc.SQLAlchemyError, ImportError):
        return None


def _place(url: URL) -> tuple[str, str, str]:
    """Host, port and database, in one spelling each."""
    host = _text(url.query.get("host")) or url.host or ""
    port = _text(url.query.get("port")) or url.port or PORTS.get(_dialect(url), "")
    database = url.database or _text(url.query.get("dbname")) or url.username or ""
    return "this machine" if _is_local(host) else host.lower().rstrip("."), str(port), database


def _text(value: Any) -> str:
    """A value of a URL's query, which may be given several times."""
    return str((value[0] if value else "") if isinstance(value, tuple) else value or "")


def _is_local(host: str) -> bool:
    """Whether it is a socket of this machine or its loopback device."""
    if not host or host.startswith(("/", "@")) or host.lower().rstrip(".") in ("localhost", "localhost.localdomain"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
