"""Files that are written completely or not at all, and the file of an SQLite URL."""

from __future__ import annotations

import re
from pathlib import Path

from hpo.errors import UsageError
from trainers.files import replace_atomically


def write_atomically(path: Path, text: str) -> None:
    """Replace the text of a file in one step: a reader sees the old text or the new text. Creates missing folders.

    Raises:
        UsageError: the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for a database in memory or on a server."""
    match = re.match(r"sqlite(?:\+pysqlite)?:///(?!:memory:|file:)([^?]+)", url)
    return Path(match[1]) if match else None
