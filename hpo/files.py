"""Files that are written completely or not at all."""

from __future__ import annotations

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
