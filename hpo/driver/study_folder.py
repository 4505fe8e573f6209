"""The folder of a study that is about to be created, and what becomes of it if the study is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpo.driver.preflight import alone
from hpo.home import Home
from hpo.ledger.lock import LOCK, Lease


class NewFolder:
    """A study's folder, removed after the block of `new_study_folder` unless the block calls `keep`."""

    def __init__(self, *, kept: bool) -> None:
        self.kept = kept

    def keep(self) -> None:
        """The study is recorded: the folder stays."""
        self.kept = True


@contextmanager
def new_study_folder(home: Home, name: str, lease: Lease) -> Iterator[NewFolder]:
    """Hold the folder of a study that is about to be created.

    A folder that had other files than a lock before is never removed.

    Raises:
        UsageError: the home folder cannot be used, another live driver holds the study, or a study is being renamed
            that has or gets this name.
        InfrastructureError: the folder cannot be written to.
    """
    path = home.study(name)
    around = [path.parent] if home.path.exists() else [path.parent, home.path]
    home.create()
    with alone(path, lease):
        folder = NewFolder(kept=any(file.name != LOCK for file in path.iterdir()))
        try:
            home.refuse_half_renamed(name)
            yield folder
        finally:
            if not folder.kept:
                _remove(path, around)


def _remove(folder: Path, around: list[Path]) -> None:
    """Remove the folder, and those `around` it that are empty then."""
    shutil.rmtree(folder)
    for place in around:
        with suppress(OSError):  # not empty, perhaps because another driver has just begun a study
            place.rmdir()
