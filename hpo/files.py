"""Files written all or nothing, and the file behind an SQLite URL."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from hpo.errors import UsageError


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content in one step; a reader sees the old text or the new one.

    Raises:
        UsageError: the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database, None for any other."""
    found = re.match(r"sqlite(?:\+pysqlite)?:///(?!:memory:|file:)([^?]+)", url)
    return Path(found[1]) if found else None
