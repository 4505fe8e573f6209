"""One driver per study: a lock on a file in the home folder, and a lease in the ledger for drivers elsewhere."""

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
from typing import TYPE_CHECKING, Any

from hpo.errors import InfrastructureError, UsageError
from hpo.ledger.attributes import HOLDER_KEY, SESSIONS_KEY

if TYPE_CHECKING:
    from optuna.study import Study

HOST = socket.gethostname()
LOCK = "lock"
"""Name of the lock file in a study's folder."""
LEASE_S = 120.0
"""A driver that gave no sign of life for this many seconds counts as dead. Drivers give one every 30 s."""


@dataclass(frozen=True)
class Holder:
    """The driver that holds a study, as the study's lock file names it."""

    pid: int
    host: str
    since: str
    """Local time, for people."""
    token: str = ""
    """The token of the driver's lease."""


@contextmanager
def study_lock(folder: Path, token: str = "") -> Iterator[Holder | None]:
    """Hold the lock of the study in `folder`. Yields the previous holder if it died on this host, otherwise None.

    The kernel releases the lock when its process ends in any way, so a dead holder's lock needs no clean-up.

    Raises:
        UsageError: another live driver holds the lock; the text names it.
        InfrastructureError: the folder cannot be written to.
    """
    with _locked(folder) as file:
        previous = _read(file)
        file.truncate(0)
        holder = Holder(os.getpid(), HOST, time.strftime("%F %T"), token)
        try:
            file.write(json.dumps(dataclasses.asdict(holder)).encode())
        except OSError as error:
            raise InfrastructureError(f"the study's folder {folder} cannot be written to: {error.strerror}") from error
        yield previous if previous and previous.host == HOST else None
        file.truncate(0)  # so that the next driver finds no dead holder


def _locked(folder: Path) -> FileIO:
    """Open the lock file and lock it.

    If the file was deleted between open and lock, retry: another process may lock a new file of that name.
    """
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
            driver = f"process {holder.pid} on {holder.host} since {holder.since}" if holder else "another process"
            raise UsageError(_refusal(folder.name, driver)) from None
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _read(file: FileIO) -> Holder | None:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):  # empty, cut off, or written by another version
        return None


def _refusal(name: str, driver: str) -> str:
    return f"the study {name!r} is being run by {driver}; watch it with `hpo status {name}`, or end that process first"


@dataclass(frozen=True)
class Lease:
    """One driver's claim on a study, kept in the ledger for drivers that use another home folder.

    Its stored form is a mapping with these fields and `alive`, the time of the last sign of life.
    """

    token: str
    """Unique to one driver."""
    host: str
    pid: int
    folder: str
    """The study's folder, which holds the lock file."""

    @classmethod
    def here(cls, folder: str) -> Lease:
        """A lease of this process, which holds the lock in `folder`."""
        return cls(uuid.uuid4().hex, HOST, os.getpid(), folder)

    def stored(self, now: float) -> dict[str, Any]:
        """The stored form at `now`, in seconds since the epoch."""
        return dataclasses.asdict(self) | {"alive": now}

    def refuse_other(self, name: str, holder: Mapping[str, Any] | None) -> None:
        """Raise UsageError if the recorded holder may be alive."""
        if not holder or self.outlived(holder):
            return
        silent = time.time() - holder["alive"]
        if silent < LEASE_S:
            driver = f"process {holder['pid']} on {holder['host']} (last sign of life {silent:.0f} s ago)"
            raise UsageError(f"{_refusal(name, driver)}; if it is dead, try again in {LEASE_S - silent:.0f} s")

    def outlived(self, holder: Mapping[str, Any]) -> bool:
        """Whether the recorded holder is certainly dead: it ran on this host, and this process has its lock."""
        return bool((holder["host"], holder["folder"]) == (self.host, self.folder))

    def check(self, name: str, holder: Mapping[str, Any] | None) -> None:
        """Raise InfrastructureError if another driver has become the holder."""
        if holder and holder["token"] != self.token:
            raise InfrastructureError(
                f"process {holder['pid']} on {holder['host']} took over the study {name!r}, because this process "
                f"gave no sign of life for {LEASE_S:.0f} s"
            )


class Session:
    """The work of this driver on an open study: its lease, and its share of the study's time."""

    def __init__(self, study: Study, lease: Lease) -> None:
        self._study = study
        self._lease = lease
        self._began = time.time()
        self.earlier: tuple[tuple[float, float], ...] = tuple(map(tuple, study.user_attrs.get(SESSIONS_KEY, ())))
        """(start, last sign of life) of the drivers before this one, in seconds since the epoch."""
        self.all = self.earlier
        """The same of all drivers. This one is the last, from its first sign of life on."""

    def take_over(self) -> None:
        """Become the holder of the study.

        Raises:
            UsageError: the recorded holder may be alive.
        """
        self._lease.refuse_other(self._study.study_name, self._study.user_attrs.get(HOLDER_KEY))
        self._study.set_user_attr(HOLDER_KEY, self._lease.stored(time.time()))

    def renew(self) -> None:
        """Record that this driver is alive.

        Raises:
            InfrastructureError: another driver took over the study.
        """
        self._lease.check(self._study.study_name, self._study.user_attrs.get(HOLDER_KEY))
        now = time.time()
        self.all = (*self.earlier, (self._began, now))
        self._study.set_user_attr(HOLDER_KEY, self._lease.stored(now))
        self._study.set_user_attr(SESSIONS_KEY, self.all)

    def end(self) -> None:
        """Record that no driver holds the study any more."""
        self._study.set_user_attr(HOLDER_KEY, None)
