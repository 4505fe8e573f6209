"""The file that `model.pretrained` names. Whether it can be weights at all is found out without importing torch."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trainers.api import WeightsError


def existing(text: str) -> Path:
    """Return the absolute path of the file that the setting `model.pretrained` names; `~` is expanded.

    Raises:
        WeightsError: it is no regular file of this machine. The text says what it is instead, and the remedy.
    """
    path = Path(os.path.expanduser(text)).absolute()
    if problem := _problem(text, path):
        raise WeightsError(f"model.pretrained: {problem}")
    return path


def _problem(text: str, path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if "://" in text:
            return f"{text} is an address, not a file; download the file, and give its path"
        if path.is_symlink():
            return f"{path} is a link to {os.readlink(path)}, which does not exist; give a file, true or false"
        return f"there is no file {path}; give a file, true or false"
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(mode):
        return f"{path} is a folder; give the file of weights in it"
    if not stat.S_ISREG(mode):
        return f"{path} is a pipe, a socket or a device; copy the weights to a file"
    return None
