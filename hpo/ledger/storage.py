"""Opening the Optuna storage, and patience with a database server that restarts."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from hpo.databases import Owner, tables
from hpo.errors import InfrastructureError, UsageError
from hpo.ledger.sqlite import FileGuard, engine_arguments
from hpo.ledger.tables.current import CurrentTables, is_current
from hpo.redact import encoding_hint, redact
from hpo.sqlite_urls import sqlite_file
from hpo.text import first_line

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy import Engine

PATIENCE_S = 120.0
"""How long a write waits for a database server that is restarting."""
TRIES, PAUSE_S = 10, 0.2
"""How often, and how many seconds apart, tables are looked for that another process is making."""
_repeated: ContextVar[bool] = ContextVar("hpo_repeated", default=False)
"""Whether what this thread asks of a database is asked again if the connection turns out to be dead."""
R = TypeVar("R")


def open_storage(url: str) -> RDBStorage:
    """Open the Optuna storage at `url`; an SQLite file is created if it does not exist.

    Raises:
        UsageError: the URL is not a SQLAlchemy URL, its driver is not installed, or the database is MLflow's.
        InfrastructureError: the database cannot be reached or has another schema version.
    """
    import optuna
    import sqlalchemy.exc

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        holder, version = tables(url)
        _refuse_foreign(url, holder)
        guard = FileGuard(sqlite_file(url))
        arguments = engine_arguments(url, guard) if url.startswith("sqlite") else {}
        if version is not None and is_current(version):
            storage: RDBStorage = CurrentTables(url, arguments, version)
        else:
            storage = _with_tables(url, arguments)
        guard.watch(storage)
        if _has_server(storage):
            _ping_before_use(storage.engine)
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
    except RuntimeError as error:  # Optuna raises it for a schema of another version
        newer, place = "pip install" in str(error), shlex.quote(_literal(redact(url)))
        remedy = "pip install --upgrade optuna" if newer else f"optuna storage upgrade --storage {place}"
        raise InfrastructureError(
            f"the ledger {redact(url)} has the schema of {'a newer' if newer else 'an older'} Optuna: "
            f"{str(error).partition('. ')[0]}. Back it up, then: {remedy}"
        ) from error


def _with_tables(url: str, arguments: dict[str, Any]) -> RDBStorage:
    """The storage of a database whose tables may be missing.

    A driver that starts and a person who looks at it both make them; the one that comes second to a table looks again.
    """
    import optuna
    import sqlalchemy.exc

    for left in reversed(range(TRIES)):
        try:
            return optuna.storages.RDBStorage(_literal(url), engine_kwargs=arguments)
        except sqlalchemy.exc.DBAPIError as error:
            if not left or "already exists" not in str(error):
                raise
            time.sleep(PAUSE_S)
    raise AssertionError


def _refuse_foreign(url: str, holder: Owner | None) -> None:
    """Raises UsageError if another program keeps its tables there; Optuna would write its own among them."""
    if holder not in (None, Owner.OPTUNA):
        raise UsageError(
            f"storage.ledger: {redact(url)} holds the tables of {holder.value}, but the ledger needs a database of its "
            "own, because both keep a table alembic_version; set storage.ledger=URL to another database"
        )


def _literal(url: str) -> str:
    """The URL such that Optuna, which formats what it gets with `{SCHEMA_VERSION}`, opens it as it is."""
    return url.replace("{", "{{").replace("}", "}}")


def open_if_there(url: str) -> RDBStorage | None:
    """The Optuna storage at `url`; None if it is an SQLite file that does not exist yet (opening would create it).

    Raises:
        As `open_storage`.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists() and os.access(file.parent, os.W_OK | os.X_OK):
        return None
    return open_storage(url)


def storage_errors() -> tuple[type[Exception], ...]:
    """The exceptions of a failing database or disk, as Optuna lets them through."""
    import optuna.exceptions
    import sqlalchemy.exc

    return (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError)


def patiently(storage: BaseStorage, call: Callable[[], R], patience: float = PATIENCE_S) -> R:
    """Call `call`, which writes to `storage`, until the database server answers; return its result.

    SQLite's errors are raised at once: it waits for locks itself, and its other errors do not go away by waiting.

    Args:
        patience: in seconds.

    Raises:
        What `call` raises, at once if waiting cannot help, otherwise after `patience`.
    """
    import optuna.exceptions
    import sqlalchemy.exc

    deadline, pause = time.monotonic() + patience, 0.1
    while True:
        repeated = _repeated.set(True)
        try:
            return call()
        except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
            cause = error if isinstance(error, sqlalchemy.exc.DBAPIError) else error.__cause__
            away = isinstance(cause, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError) or (
                isinstance(cause, sqlalchemy.exc.DBAPIError) and cause.connection_invalidated
            )
            if not away or not _has_server(storage) or time.monotonic() + pause > deadline:
                raise
        finally:
            _repeated.reset(repeated)
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def _ping_before_use(engine: Engine) -> None:
    """Ask whether a connection of the pool is alive before it is used: a server may have been restarted.

    That costs a round trip. What `patiently` repeats spares it.
    """
    import sqlalchemy.event
    import sqlalchemy.exc

    def ping(connection: Any, record: object, proxy: object) -> None:
        if not _repeated.get():
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise sqlalchemy.exc.InvalidatePoolError from error  # the pool takes another connection

    sqlalchemy.event.listen(engine, "checkout", ping)


def _has_server(storage: BaseStorage) -> bool:
    engine = getattr(storage, "engine", None)
    return engine is not None and engine.dialect.name != "sqlite"
