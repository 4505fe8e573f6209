"""One driver per study: a lock on a file in the home folder, and a lease in the ledger for drivers elsewhere."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.clock import Clock
from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home, confirmed_study
from hpo.ledger.attributes import HOLDER_KEY, SESSIONS_KEY
from hpo.ledger.tables.claim import Claim
from hpo.processes import ended, fingerprint

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

HOST = socket.gethostname()
LOCK = "lock"
"""Name of the lock file in a study's folder."""
LEASE_S = 120.0
"""A driver that gives no sign of life for this many seconds, while somebody watches, counts as dead. Drivers give one
every 30 s."""
LOOK_S = 2.0
"""Time between two looks at another driver's sign of life."""


@dataclass(frozen=True)
class Holder:
    """The driver that holds a study, as the study's lock file names it."""

    pid: int
    host: str
    since: str
    """Local time, for people."""
    token: str = ""
    """The token of the driver's lease."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


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


def driver_of(folder: Path) -> str | None:
    """Who runs the study in `folder` at this moment; None if no living process does. Changes nothing."""
    try:
        file = (folder / LOCK).open("rb", buffering=0)
    except OSError:
        return None
    with file:
        if (holder := _read(file)) is None:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return str(holder)
        return None


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
            raise UsageError(_refusal(folder, folder.name, str(holder or "another process"))) from None
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _read(file: FileIO) -> Holder | None:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):  # empty, cut off, or written by another version
        return None


def _refusal(folder: Path | str, name: str, driver: str) -> str:
    watch, stop = (Home.of(folder).command(f"{verb} {confirmed_study(name) or name}") for verb in ("status", "stop"))
    return f"the study {name!r} is being run by {driver}; watch it with `{watch}`, or stop it first with `{stop}`"


@dataclass(frozen=True)
class Lease:
    """One driver's claim on a study, kept in the ledger for drivers that use another home folder.

    Its stored form is a mapping with these fields and `alive`, the driver's own time at its last sign of life. Clocks
    of other machines say nothing about this one's, so nobody compares `alive` with a clock: a driver lives if it
    changes.
    """

    token: str
    """Unique to one driver."""
    host: str
    pid: int
    folder: str
    """The study's folder, which holds the lock file."""
    process: str = ""
    """Tells the process from all others of its machine; empty where the system has no such name."""

    @classmethod
    def here(cls, folder: str) -> Lease:
        """A lease of this process, which holds the lock in `folder`."""
        return cls(uuid.uuid4().hex, HOST, os.getpid(), folder, fingerprint(os.getpid()))

    def stored(self, now: float) -> dict[str, Any]:
        """The stored form at `now`."""
        return dataclasses.asdict(self) | {"alive": now}

    def outwait(
        self,
        name: str,
        read: Callable[[], Mapping[str, Any] | None],
        say: Callable[[str], None],
        clock: Clock | None = None,
    ) -> Mapping[str, Any] | None:
        """Wait until it is certain that the holder of the study `name` is dead, and return its lease.

        Args:
            read: reads the recorded holder.
            say: tells the person what this waits for.

        Raises:
            UsageError: the holder is alive.
        """
        clock = clock or Clock()
        first = read()
        if first is None or self.outlived(first):
            return first
        driver = f"process {first['pid']} on {first['host']}"
        say(f"waiting up to {LEASE_S:.0f} s to see whether {driver} still runs the study {name!r}")
        until = clock.now() + LEASE_S
        while clock.now() < until:
            clock.sleep(LOOK_S)
            holder = read()
            if holder is None:
                return None
            if holder != first:
                raise UsageError(_refusal(self.folder, name, f"process {holder['pid']} on {holder['host']}"))
        return first

    def outlived(self, holder: Mapping[str, Any]) -> bool:
        """Whether the recorded holder is certainly dead: its process is gone, or this process has its lock."""
        return bool((holder["host"], holder["folder"]) == (self.host, self.folder)) or gone(holder)

    def check(self, name: str, holder: Mapping[str, Any] | None) -> None:
        """Raise InfrastructureError unless this driver is the holder."""
        if holder is None or holder["token"] != self.token:
            other = f"process {holder['pid']} on {holder['host']}" if holder else "another driver, which has ended,"
            raise InfrastructureError(
                f"{other} took over the study {name!r}, because this process gave no sign of life for {LEASE_S:.0f} s"
            )


def gone(holder: Mapping[str, Any]) -> bool:
    """Whether the process of a lease ran on this machine and has ended."""
    return ended(holder["pid"], holder.get("process", ""))


class Session:
    """The work of this driver on an open study: its lease, and its share of the study's time."""

    def __init__(self, storage: BaseStorage, study: Study, lease: Lease, clock: Clock) -> None:
        self._study = study
        self._lease = lease
        self._clock = clock
        self._claim = Claim(storage, study._study_id, HOLDER_KEY)
        self.token = lease.token
        """Tells this driver from all others."""
        self.holding = False
        """Whether this driver holds the study, as far as it knows."""
        self._began: float | None = None
        self._resting = False
        self.earlier = self._recorded()
        """(start, last sign of life) of the drivers before this one, in seconds since the epoch, each by its own
        `Clock`: the time of a driver is the difference."""
        self.all = self.earlier
        """The same of all drivers. This one is the last, from its first sign of life on."""

    def _recorded(self) -> tuple[tuple[float, float], ...]:
        return tuple(map(tuple, self._study.user_attrs.get(SESSIONS_KEY, ())))

    def take_over(self, dead: Mapping[str, Any] | None) -> None:
        """Become the holder of the study.

        Args:
            dead: the recorded holder, which has died; None if nobody holds the study.

        Raises:
            UsageError: there is another holder by now, or one has worked since the study was read.
        """
        unchanged = self._recorded() == self.earlier
        if not (unchanged and self._claim.replace(dead, self._lease.stored(self._clock.now()))):
            raise UsageError(_refusal(self._lease.folder, self._study.study_name, "another driver, which was faster"))
        self.holding = True
        self._claim.guard(self._check, self._lease.token)

    def renew(self) -> None:
        """Record that this driver is alive.

        Raises:
            InfrastructureError: another driver took over the study.
        """
        now = self._clock.now()
        self._replace_own(self._lease.stored(now))
        if self._resting:
            return
        self._began = now if self._began is None else self._began
        self.all = (*self.earlier, (self._began, now))
        self._study.set_user_attr(SESSIONS_KEY, self.all)

    def rest(self, resting: bool) -> None:
        """While this driver rests, its time does not count for the study.

        Raises:
            As `renew`.
        """
        if resting == self._resting:
            return
        if resting:
            self.renew()
            self.earlier, self._began = self.all, None
        self._resting = resting
        self.renew()

    def end(self) -> None:
        """Record that no driver holds the study any more."""
        self._check(self._claim.read())
        self.holding = False
        self._claim.guard(None)
        self._replace_own(None)

    def _replace_own(self, lease: Mapping[str, Any] | None) -> None:
        holder = self._claim.read()
        self._check(holder)
        if not self._claim.replace(holder, lease):  # somebody was faster
            self._check(self._claim.read())

    def _check(self, holder: Mapping[str, Any] | None) -> None:
        if holder is not None or self.holding:
            self._lease.check(self._study.study_name, holder)
