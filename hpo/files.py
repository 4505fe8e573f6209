"""Files that are written completely or not at all, and the size of folders."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hpo.errors import UsageError
from trainers.files import replace_atomically


def write_atomically(path: Path, text: str) -> None:
    """Replace the text of a file in one step: a reader sees the old text or the new text. Creates missing folders.

    A link stays and its target is replaced. A device or a pipe, for example `/dev/null`, is written to as it is:
    replacing it would break it for all programs.

    Raises:
        UsageError: the folder cannot be written to.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            replace_atomically(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def write_new(path: Path, text: str, *, force: bool = False) -> None:
    """Write a file that a person named, and only where there is none yet.

    Args:
        force: replace a file that is there.

    Raises:
        UsageError: there is something of that name already, or the file cannot be written.
    """
    refuse_place(path, force=force)
    there = os.path.lexists(path)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        if not there and os.path.lexists(path):
            path.unlink()  # a part of it, if the disk is full
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another file") from error


def refuse_place(path: Path, *, force: bool = False) -> None:
    """What `write_new` finds before it writes, for commands that have something slow to do before.

    Raises:
        UsageError: as `write_new`.
    """
    if os.path.isdir(path):  # Path.is_dir may raise, for example if the name is too long
        raise UsageError(f"{path} is a folder; name a file, for example {path / 'study.yaml'}")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} exists already; name another file, or replace it with --force")
    if not os.path.isdir(path.parent):
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}; create it, or name another file")
    if not os.access(path if os.path.lexists(path) else path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: its place is not writable; name another file")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; a file that is deleted meanwhile counts 0."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(place, name)).st_size
    return total
