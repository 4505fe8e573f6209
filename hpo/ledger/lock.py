"""One driver per study: an advisory lock in the home folder, and a lease in the ledger for drivers elsewhere."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from hpo.errors import InfrastructureError, UsageError

HOST = socket.gethostname()
LOCK = "lock"
"""Name of the lock file in a study's folder."""
LEASE_S = 120.0
"""A driver that gave no sign of life for so long is taken for dead; it gives one every 30 s."""


@dataclass(frozen=True)
class Holder:
    """Who holds a study, as its lock file tells."""

    pid: int
    host: str
    since: str
    """Local time, for people."""
    token: str = ""
    """That of its lease."""


@contextmanager
def study_lock(folder: Path, token: str = "") -> Iterator[Holder | None]:
    """Hold the study whose folder this is; yields the holder of this host before, if it died.

    The kernel drops an flock when its process ends in any way, so a dead holder's lock needs no clean-up.

    Raises:
        UsageError: another live driver holds it; the text says who.
        InfrastructureError: the folder cannot be written to.
    """
    with _locked(folder) as file:
        before = _read(file)
        file.truncate(0)
        try:
            file.write(
                json.dumps(dataclasses.asdict(Holder(os.getpid(), HOST, time.strftime("%F %T"), token))).encode()
            )
        except OSError as error:
            raise InfrastructureError(f"the study's folder {folder} cannot be written to: {error.strerror}") from error
        yield before if before and before.host == HOST else None
        file.truncate(0)  # an orderly end leaves nothing to clear up


def _locked(folder: Path) -> FileIO:
    """The lock file, held. One that was removed between opening and locking, with a study that came to nothing, is
    no lock any more: others would make and hold the next one."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / LOCK).open("a+b", buffering=0)
        except OSError as error:
            raise InfrastructureError(f"the study's folder {folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                holder = _read(file)
            who = f"process {holder.pid} on {holder.host} since {holder.since}" if holder else "another process"
            raise UsageError(_refusal(folder.name, who)) from None
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _read(file: FileIO) -> Holder | None:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):  # empty, cut off, or of another version
        return None


def _refusal(name: str, holder: str) -> str:
    return f"the study {name!r} is being run by {holder}; watch it by `hpo status {name}`, or end that process first"


@dataclass(frozen=True)
class Lease:
    """Who has a study open, as the ledger tells drivers that do not share this one's home folder.

    The stored form is a mapping with these fields and `alive`, the time of the last sign of life.
    """

    token: str
    """Unique to one driver."""
    host: str
    pid: int
    folder: str
    """The study's folder, where the flock is."""

    @classmethod
    def here(cls, folder: str) -> Lease:
        """A lease of this process, whose flock is in `folder`."""
        return cls(uuid.uuid4().hex, HOST, os.getpid(), folder)

    def stored(self, now: float) -> dict[str, Any]:
        """What to record at `now`, seconds since the epoch."""
        return dataclasses.asdict(self) | {"alive": now}

    def refuse_other(self, name: str, holder: Mapping[str, Any] | None) -> None:
        """Raises UsageError where the recorded holder may be alive."""
        if not holder or self.outlived(holder):
            return
        silent = time.time() - holder["alive"]
        if silent < LEASE_S:
            raise UsageError(
                _refusal(name, f"process {holder['pid']} on {holder['host']} (last sign of life {silent:.0f} s ago)")
                + f"; if it is dead, try again in {LEASE_S - silent:.0f} s"
            )

    def outlived(self, holder: Mapping[str, Any]) -> bool:
        """Whether the recorded holder is known to be dead: it ran on this host, and this process has its flock."""
        return bool((holder["host"], holder["folder"]) == (self.host, self.folder))

    def check(self, name: str, holder: Mapping[str, Any] | None) -> None:
        """Raises InfrastructureError where another driver has become the holder."""
        if holder and holder["token"] != self.token:
            raise InfrastructureError(
                f"process {holder['pid']} on {holder['host']} took the study {name!r} over, because this process "
                f"had given no sign of life for {LEASE_S:.0f} s"
            )
