"""Hold a study with its confirmation, so that no driver begins with them while somebody else changes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from hpo.clock import Clock
from hpo.driver.preflight import alone
from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home, confirmation_of
from hpo.ledger.attributes import HOLDER_KEY
from hpo.ledger.lock import Lease
from hpo.ledger.reader import last_holder, open_existing
from hpo.ledger.storage import open_if_there
from hpo.ledger.tables.claim import Claim


def ledger_if_there(home: Home, name: str) -> Any:
    """The ledger that has, or would have, a study; None if it does not exist.

    Raises:
        UsageError: there is no home folder either.
    """
    return open_if_there(home.ledger_of(name)) if home.path.is_dir() else open_existing(home)


@contextmanager
def held(storage: Any, name: str, folder: Path, say: Callable[[str], None]) -> Iterator[Sequence[str]]:
    """Hold a study that no living driver runs; yields the names of its confirmation, if there is one, and of itself.

    Args:
        storage: its ledger; None if there is none, which leaves the folder to be held.
        folder: the study's folder, which may be moved or removed meanwhile.
        say: tells the person what this waits for.

    Raises:
        UsageError: a driver runs the study or its confirmation.
    """
    lease = Lease.here(str(folder))
    with alone(folder, lease):
        names = [study for study in (confirmation_of(name), name) if is_there(storage, study)]
        claims: list[tuple[Claim, dict[str, Any]]] = []
        try:
            for study in names:
                claims.append(_claim(storage, study, lease, say))
            yield names
        finally:
            for claim, mine in claims:
                with suppress(InfrastructureError):  # it was removed
                    claim.replace(mine, None)


def _claim(storage: Any, study: str, lease: Lease, say: Callable[[str], None]) -> tuple[Claim, dict[str, Any]]:
    """Take a study that no living driver holds."""
    holder = lease.outwait(study, partial(last_holder, storage, study), say)
    claim, mine = Claim(storage, storage.get_study_id_from_name(study), HOLDER_KEY), lease.stored(Clock().now())
    if not claim.replace(holder, mine):
        raise UsageError(f"a driver has just begun with {study}; stop it first")
    return claim, mine


def is_there(storage: Any, study: str) -> bool:
    """Whether the ledger has a study of that name, complete or not."""
    try:
        return storage is not None and storage.get_study_id_from_name(study) is not None
    except KeyError:
        return False
