"""What only SQLite needs: engine arguments, a guard against a replaced file, a check for network file systems."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.databases import LOCK_TIMEOUT_S
from hpo.errors import InfrastructureError
from hpo.sqlite_urls import sqlite_file

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

NETWORK_FILE_SYSTEMS = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|fuse\.(glusterfs|s3fs|sshfs|rclone)|gfs2|glusterfs|gpfs|lustre|nfs4?|ocfs2|smb(2|3|fs)"
)


class FileGuard:
    """Makes every use of a database fail once its file is removed or replaced.

    SQLite itself would continue to write to the removed file, or begin an empty one. If the file is put back, nothing
    is lost.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def watch(self, storage: RDBStorage) -> None:
        """Begin to guard the file that `storage` uses."""
        import sqlalchemy.event

        if self._path is not None and self._path.is_file():
            self._opened = self._identity()
            sqlalchemy.event.listen(storage.engine, "checkout", lambda *ignored: self.check())

    def check(self) -> None:
        """Raise InfrastructureError if the file is not the one that was opened."""
        if self._opened is None or (now := self._identity()) == self._opened:
            return
        raise InfrastructureError(
            f"the ledger {self._path} was {'replaced' if now else 'removed'} while in use; put it back, then continue"
        )

    def _identity(self) -> tuple[int, int] | None:
        assert self._path is not None
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


def engine_arguments(url: str, guard: FileGuard) -> dict[str, Any]:
    """Arguments of SQLAlchemy's engine for an SQLite database."""
    import sqlite3

    import sqlalchemy.pool

    # The write-ahead log needs memory that processes share, which a network file system does not have.
    mode = "DELETE" if network_file_system(url) else "WAL"

    class Connection(sqlite3.Connection):
        """With a write-ahead log readers never block the driver, and a commit needs one fsync instead of three."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            guard.check()
            super().__init__(*arguments, **options)
            self.execute(f"PRAGMA journal_mode={mode}")

    return {
        "connect_args": {"timeout": LOCK_TIMEOUT_S, "factory": Connection},
        "poolclass": sqlalchemy.pool.NullPool if ":memory:" in url else sqlalchemy.pool.QueuePool,
    }


def network_file_system(url: str, mounts: str | None = None) -> str | None:
    """The type of the network file system that holds an SQLite database; None on a local disk.

    SQLite's locks are not reliable on such file systems: two drivers can corrupt the database.

    Args:
        url: SQLAlchemy URL. Other databases than SQLite give None.
        mounts: text in the format of `/proc/self/mounts`; None reads that file, if it exists.
    """
    file = sqlite_file(url)
    if file is None:
        return None
    if mounts is None:
        table = Path("/proc/self/mounts")
        mounts = table.read_text() if table.is_file() else ""
    folder = os.path.realpath(file.parent)
    kind, longest = "", -1
    for line in mounts.splitlines():
        _, point, type_, *_ = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
        if (folder == point or folder.startswith(f"{point.rstrip('/')}/")) and len(point) >= longest:
            kind, longest = type_, len(point)
    return kind if NETWORK_FILE_SYSTEMS.fullmatch(kind) else None


def network_warning(kind: str) -> str:
    """The warning for a ledger on a network file system of this type."""
    return (
        f"the ledger is on a network file system ({kind}), where SQLite's locks are not reliable; use a --home on a "
        f"local disk, or a database server: storage.ledger=postgresql://…"
    )
