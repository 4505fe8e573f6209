"""Where MLflow in the home folder keeps its files: below the home folder, also after that was moved or copied."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hpo.home import Home

COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
"""Columns of MLflow's database that hold the URI of a file or folder, which names the home folder."""


def follow(home: Home) -> dict[str, str]:
    """Let MLflow's records point into the home folder where they point to its former place.

    Returns:
        The former folders of artifacts and the present ones, as URIs; empty if the records point here.
    """
    database = home.path / "mlflow.db"
    if not database.is_file():
        return {}
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in known:
            return {}
        locations = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
        moved = {old: new for (old,) in locations if (new := _place(home, old))}
        for table, columns in COLUMNS.items():
            for column in columns if table in known else ():
                for old, new in moved.items():
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )
    return moved


def _place(home: Home, location: str | None) -> str | None:
    """Where an experiment's artifacts belong now; None if they lie there already, or never lay in a home folder."""
    parts = urlsplit(location or "")
    folder = Path(unquote(parts.path))
    if parts.scheme != "file" or folder.parent.name != home.artifacts.name or folder.parent == home.artifacts:
        return None
    place = home.artifacts / folder.name
    # A folder that is there, while none of that name is here, is one that a person chose.
    return place.as_uri() if place.exists() or not folder.exists() else None
