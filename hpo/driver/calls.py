"""The calls to a conductor: one at a time, and none of them raises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpo.errors import InfrastructureError
from hpo.ledger.storage import storage_errors
from hpo.text import first_line


class Calls:
    """Lets one thread at a time work on a study, and keeps the first error."""

    def __init__(self, stop: Callable[[str], None]) -> None:
        """
        Args:
            stop: stops the study, for this reason.
        """
        self.error: Exception | None = None
        """The first error; None if there was none."""
        self._stop = stop
        self._lock = threading.RLock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """One call; an error of the block is kept instead of being raised."""
        with self._lock:
            try:
                yield
            except Exception as error:  # noqa: BLE001 - `raise_error` raises it
                self.fail(error)

    def fail(self, error: Exception) -> None:
        """Keep `error`, if it is the first one, and stop the study."""
        self.error = self.error or error
        self._stop(f"{type(error).__name__}: {error}")

    def raise_error(self) -> None:
        """Raise the first error, if there was one.

        Raises:
            InfrastructureError: the ledger, the disk or Ray failed.
            Exception: any other error.
        """
        if self.error is None:
            return
        if isinstance(self.error, (*storage_errors(), InfrastructureError)):
            raise InfrastructureError(f"the study stopped: {_cause(self.error)}") from self.error
        raise self.error


def _cause(error: Exception) -> str:
    """The database's own words instead of Optuna's guess at a cause, in one line."""
    original = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
    return first_line(original) or type(original).__name__
