"""Where MLflow keeps files, which no record depends on.

In the home folder they lie below it, also after that was moved or copied. Elsewhere they may lie in a store of their
own, which a client may not be able to use.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hpo.errors import HpoError
from hpo.home import Home
from hpo.redact import as_reason, redact
from hpo.text import first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

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


class RunFiles:
    """Reads and writes files of runs. After the first error no more is tried until `retry`, so it is told once."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    @property
    def usable(self) -> bool:
        """Whether the store has refused nothing yet."""
        return self._error is None

    def retry(self) -> None:
        """Try again, although the store has refused something."""
        self._error = None

    def attempt(self, call: Callable[[], object]) -> bool:
        """Whether `call`, which uses the store, succeeded; False without a call once it has refused something."""
        if self._error is not None:
            return False
        try:
            call()
        except HpoError:
            raise
        except Exception as error:  # noqa: BLE001 - each store has a library of its own, with errors of its own
            self._error = error
            return False
        return True

    def read(self, client: MlflowClient, run: str, name: str) -> str | None:
        """The content of a file; None if there is none or it cannot be read."""
        found: list[str] = []

        def look() -> None:
            if name in [file.path for file in client.list_artifacts(run)]:
                with TemporaryDirectory() as folder:
                    found.append(Path(client.download_artifacts(run, name, folder)).read_text(encoding="utf-8"))

        self.attempt(look)
        return next(iter(found), None)

    def trouble(self, run: Run, study: str, home: Home) -> str | None:
        """What a person must know of the store of the study's `run`; None if it has refused nothing.

        Args:
            home: the home folder that holds the study.
        """
        if self._error is None:
            return None
        reason = first_line(as_reason(str(self._error))) or type(self._error).__name__
        return (
            f"MLflow has no files (specification.yaml, plots, models) of {study}, only its records: {reason}. Make "
            f"{redact(str(run.info.artifact_uri))} writable from this machine, or start the MLflow server with "
            f"--serve-artifacts. Then write the files with: {home.command(f'doctor {study}')}"
        )
