"""Opening the Optuna storage, patience with a database server that restarts, and who may write to a study."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from hpo.databases import Owner, owner
from hpo.errors import InfrastructureError, UsageError
from hpo.ledger.sqlite import FileGuard, engine_arguments
from hpo.redact import encoding_hint, redact
from hpo.sqlite_urls import sqlite_file
from hpo.text import first_line

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy import Connection

PATIENCE_S = 120.0
"""How long a write waits for a database server that is restarting."""
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
        _refuse_foreign(url)
        guard = FileGuard(sqlite_file(url))
        # Pinging first costs milliseconds and saves a trial when a database server was restarted.
        arguments = engine_arguments(url, guard) if url.startswith("sqlite") else {"pool_pre_ping": True}
        storage = optuna.storages.RDBStorage(_literal(url), engine_kwargs=arguments)
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
    except RuntimeError as error:  # Optuna raises it for a schema of another version
        newer, place = "pip install" in str(error), shlex.quote(_literal(redact(url)))
        remedy = "pip install --upgrade optuna" if newer else f"optuna storage upgrade --storage {place}"
        raise InfrastructureError(
            f"the ledger {redact(url)} has the schema of {'a newer' if newer else 'an older'} Optuna: "
            f"{str(error).partition('. ')[0]}. Back it up, then: {remedy}"
        ) from error


def _refuse_foreign(url: str) -> None:
    """Raises UsageError if another program keeps its tables there; Optuna would write its own among them."""
    holder = owner(url)
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


class Claim:
    """The attribute of a study that names its holder. It changes hands atomically, and guards the holder's writes."""

    def __init__(self, storage: BaseStorage, study: int, key: str) -> None:
        self._storage = storage
        self._study = study
        self._key = key
        self._engine = getattr(storage, "engine", None)  # None: in memory, which no other process sees

    def read(self) -> Mapping[str, Any] | None:
        """The holder's lease; None if nobody holds the study."""
        holder: Mapping[str, Any] | None = self._storage.get_study_user_attrs(self._study).get(self._key)
        return holder

    def replace(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
        """Replace the holder if it is still `before`; returns whether it was."""
        missing = self._key not in self._storage.get_study_user_attrs(self._study)
        if self._engine is None or missing:
            if same := self.read() == before:
                self._storage.set_study_user_attr(self._study, self._key, after)
            return same
        import sqlalchemy
        from optuna.storages._rdb.models import StudyUserAttributeModel as Row

        mine = (Row.study_id == self._study, Row.key == self._key, Row.value_json == json.dumps(before))
        with self._engine.begin() as connection:
            change = sqlalchemy.update(Row).where(*mine).values(value_json=json.dumps(after))
            return bool(connection.execute(change).rowcount)

    def guard(self, check: Callable[[Mapping[str, Any] | None], None] | None) -> None:
        """From now on no transaction of this storage that wrote is committed unless `check` accepts the holder.

        It is called inside the transaction. On a database server it locks the entry until the end of the transaction,
        and SQLite has one writer at a time, so the study cannot change hands between the check and the write.

        Args:
            check: raises an error where the driver may not write; None ends the guard.
        """
        if self._engine is None:
            return
        import sqlalchemy
        from optuna.storages._rdb.models import StudyUserAttributeModel as Row

        entry = sqlalchemy.select(Row.value_json).where(Row.study_id == self._study, Row.key == self._key)
        locked = entry.with_for_update(read=True)

        def ask(connection: Connection) -> None:
            stored = connection.execute(locked).scalar()
            assert check is not None
            check(json.loads(stored) if stored else None)

        self._engine.update_execution_options(**{_GUARD: ask if check else None})
        for event, listener in (("after_cursor_execute", _note_write), ("commit", _ask_guard)):
            if not sqlalchemy.event.contains(self._engine, event, listener):
                sqlalchemy.event.listen(self._engine, event, listener)


_GUARD, _WROTE = "hpo_guard", "hpo_wrote"


def _note_write(
    connection: Connection, cursor: object, statement: str, parameters: object, context: Any, many: bool
) -> None:
    if context is not None and (context.isinsert or context.isupdate or context.isdelete):
        connection.info[_WROTE] = True


def _ask_guard(connection: Connection) -> None:
    ask = connection.get_execution_options().get(_GUARD)
    if connection.info.pop(_WROTE, False) and ask is not None:
        ask(connection)
