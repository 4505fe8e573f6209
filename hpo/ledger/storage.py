"""Opening the Optuna storage: SQLite tuned to survive, any other SQLAlchemy database pinged before use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from hpo.errors import InfrastructureError, UsageError
from hpo.files import sqlite_file
from hpo.home import Home
from hpo.ledger.sqlite import FileGuard, network_file_system
from hpo.redact import encoding_hint, redact
from hpo.text import first_line

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage

LOCK_TIMEOUT_S = 60
"""How long a statement waits for another process that holds SQLite's lock."""
PATIENCE_S = 120.0
"""How long a write waits for a database server that is restarting."""
R = TypeVar("R")


def open_storage(url: str) -> RDBStorage:
    """The Optuna storage at `url`.

    Raises:
        UsageError: the URL is not a SQLAlchemy URL or its driver is not installed.
        InfrastructureError: the database cannot be reached or has another schema version.
    """
    import optuna
    import sqlalchemy.exc

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        guard = FileGuard(sqlite_file(url))
        storage = optuna.storages.RDBStorage(url, engine_kwargs=_engine_arguments(url, guard))
        guard.watch(storage)
        return storage
    except (
        sqlalchemy.exc.ArgumentError,
        sqlalchemy.exc.NoSuchModuleError,
        ModuleNotFoundError,
        ImportError,
    ) as error:
        raise UsageError(
            f"storage.ledger: {redact(url)} cannot be used: {redact(str(error), url)}{encoding_hint(url)}"
        ) from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        cause = redact(first_line(error.__cause__ or error), url)
        raise InfrastructureError(f"the ledger {redact(url)} cannot be opened: {cause}{encoding_hint(url)}") from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        newer = "pip install" in str(error)
        remedy = "pip install --upgrade optuna" if newer else f"optuna storage upgrade --storage {redact(url)}"
        raise InfrastructureError(
            f"the ledger {redact(url)} has the schema of {'a newer' if newer else 'an older'} Optuna: "
            f"{str(error).partition('. ')[0]}. Back it up, then: {remedy}"
        ) from error


def open_if_there(url: str) -> RDBStorage | None:
    """The Optuna storage at `url`, None for an SQLite file that is not there but can be: opening would make it.

    Raises:
        As `open_storage`.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists() and os.access(file.parent, os.W_OK | os.X_OK):
        return None
    return open_storage(url)


def storage_errors() -> tuple[type[Exception], ...]:
    """What a failing database or disk raises under Optuna."""
    import optuna.exceptions
    import sqlalchemy.exc

    return (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError)


def _engine_arguments(url: str, guard: FileGuard) -> dict[str, Any]:
    if not url.startswith("sqlite"):
        return {"pool_pre_ping": True}  # a restarted server costs a ping, not a trial
    import sqlite3

    import sqlalchemy.pool

    # The write-ahead log is memory shared between processes, which a network file system does not have.
    mode = "DELETE" if network_file_system(url) else "WAL"

    class Connection(sqlite3.Connection):
        """With WAL readers (`hpo status`) never block the driver, and a commit is one fsync instead of three."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            guard.check()
            super().__init__(*arguments, **options)
            self.execute(f"PRAGMA journal_mode={mode}")

    return {
        "connect_args": {"timeout": LOCK_TIMEOUT_S, "factory": Connection},
        "poolclass": sqlalchemy.pool.NullPool if ":memory:" in url else sqlalchemy.pool.QueuePool,
    }


def patiently(storage: BaseStorage, call: Callable[[], R], patience: float = PATIENCE_S) -> R:
    """The result of `call`, which writes to `storage`, called again while a database server does not answer.

    SQLite has its own time-out for locks, and its other errors do not go away by waiting.

    Raises:
        What `call` raises: at once where waiting cannot help, else after `patience` seconds.
    """
    import optuna.exceptions
    import sqlalchemy.exc

    deadline, pause = time.monotonic() + patience, 0.1
    while True:
        try:
            return call()
        except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
            cause = error if isinstance(error, sqlalchemy.exc.DBAPIError) else error.__cause__
            away = isinstance(cause, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError) or (
                isinstance(cause, sqlalchemy.exc.DBAPIError) and cause.connection_invalidated
            )
            if not away or not _has_server(storage) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def _has_server(storage: BaseStorage) -> bool:
    engine = getattr(storage, "engine", None)
    return engine is not None and engine.dialect.name != "sqlite"


def open_existing(home: Home, name: str | None = None) -> RDBStorage:
    """The ledger that holds a study, or the home's own; for readers, who must not create one.

    Raises:
        UsageError: nothing was ever run in this home folder.
        InfrastructureError: the study was, but its ledger is gone; or as `open_storage`.
    """
    url = home.ledger_of(name) if name else home.ledger_url
    file = sqlite_file(url)
    if file is not None and not file.is_file():
        if name and home.study(name).is_dir():
            raise InfrastructureError(
                f"the ledger of {name!r}, {file}, is gone; put it back, from a backup if need be. Without it nobody "
                f"knows what the files in {home.study(name)} belong to"
            )
        raise UsageError(f"no study was run in {home.path}; name another home folder by --home")
    return open_storage(url)
