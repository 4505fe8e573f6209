"""One driver per study: an advisory lock that dies with its holder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpo.errors import UsageError


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Hold the study whose folder this is.

    The kernel drops an flock when its process ends in any way, so a dead holder's lock needs no clean-up.

    Raises:
        UsageError: another live driver holds it; the text says who.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(
                f"the study {folder.name!r} is being run by {_holder(file.read())}; "
                f"watch it by `hpo status {folder.name}`, or end that process first"
            ) from None
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}, file)
        file.flush()
        yield


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
