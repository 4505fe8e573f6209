"""What SQLite alone needs: a guard against a replaced file, and the check for network file systems."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import InfrastructureError
from hpo.files import sqlite_file

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

NETWORK_FILE_SYSTEMS = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|fuse\.(glusterfs|s3fs|sshfs|rclone)|gfs2|glusterfs|gpfs|lustre|nfs4?|ocfs2|smb(2|3|fs)"
)


class FileGuard:
    """Has every use of an SQLite database fail once its file is removed or replaced: SQLite itself would go on writing
    to what nobody can find again, or begin an empty one. Whoever puts the file back has everything."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def watch(self, storage: RDBStorage) -> None:
        """From now on the file must stay what it is."""
        import sqlalchemy.event

        if self._path is not None and self._path.is_file():
            self._opened = self._identity()
            sqlalchemy.event.listen(storage.engine, "checkout", lambda *ignored: self.check())

    def check(self) -> None:
        """Raises InfrastructureError where it is not."""
        if self._opened is None or (now := self._identity()) == self._opened:
            return
        raise InfrastructureError(
            f"the ledger {self._path} was {'replaced' if now else 'removed'} while in use; put it back before going on"
        )

    def _identity(self) -> tuple[int, int] | None:
        assert self._path is not None
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


def network_file_system(url: str, mounts: str | None = None) -> str | None:
    """The type of the network file system that holds an SQLite database, None if it is on a local one.

    SQLite's locks are not reliable there: two drivers can corrupt the file.

    Args:
        url: SQLAlchemy URL; any other database gives None.
        mounts: text in the form of `/proc/self/mounts`; None reads that file, where there is one.
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
        _, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if (folder == point or folder.startswith(f"{point.rstrip('/')}/")) and len(point) >= longest:
            kind, longest = found, len(point)
    return kind if NETWORK_FILE_SYSTEMS.fullmatch(kind) else None


def network_warning(kind: str) -> str:
    """What to say of a ledger on such a file system."""
    return (
        f"the ledger lies on a network file system ({kind}), where SQLite's locks are not reliable; use a local "
        f"--home, or a database server by storage.ledger=postgresql://…"
    )
