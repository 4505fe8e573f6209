"""The URL of an SQLite file, and the file of such a URL."""

from __future__ import annotations

from pathlib import Path


def sqlite_url(file: Path) -> str:
    """The URL of an SQLite file, for SQLAlchemy and MLflow: the one that the installed SQLAlchemy reads as this file.

    SQLAlchemy decodes the path of a URL since 2.1; before, a path stands there as it is. MLflow creates the folder of
    a `sqlite:///` URL without decoding it, so an escaped URL names its driver too.

    Raises:
        ValueError: the installed SQLAlchemy has no URL for this file.
    """
    import sqlalchemy

    escaped = sqlalchemy.URL.create("sqlite+pysqlite", database=str(file)).render_as_string()
    for url in (f"sqlite:///{file}", escaped):
        if sqlite_file(url) == file:
            return url
    raise ValueError(
        f"SQLAlchemy {sqlalchemy.__version__} takes what follows a '?' in the path of a database as options; use a "
        f"path without '?', or type: pip install --upgrade 'sqlalchemy>=2.1'"
    )


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL, as SQLAlchemy opens it; None for a database in memory, on a server, or no such URL."""
    if not url.startswith(("sqlite:", "sqlite+pysqlite:")):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(url).database
    except (ArgumentError, ValueError):
        return None
    return None if not database or database.startswith((":memory:", "file:")) else Path(database)
