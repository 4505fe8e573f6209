"""Opening the Optuna storage: SQLite tuned to survive, any other SQLAlchemy database pinged before use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home
from hpo.redact import redact

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

LOCK_TIMEOUT_S = 60
"""How long a statement waits for another process that holds SQLite's lock."""


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
        return optuna.storages.RDBStorage(url, engine_kwargs=_engine_arguments(url))
    except (
        sqlalchemy.exc.ArgumentError,
        sqlalchemy.exc.NoSuchModuleError,
        ModuleNotFoundError,
        ImportError,
    ) as error:
        raise UsageError(f"storage.ledger: {redact(url)} cannot be used: {redact(str(error))}") from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise InfrastructureError(
            f"the ledger {redact(url)} cannot be opened: {redact(str(error.__cause__ or error))}"
        ) from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise InfrastructureError(
            f"the ledger {redact(url)} was written by another Optuna version: {error}. "
            f"Back it up, then: optuna storage upgrade --storage {redact(url)}"
        ) from error


def storage_errors() -> tuple[type[Exception], ...]:
    """What a failing database or disk raises under Optuna."""
    import optuna.exceptions
    import sqlalchemy.exc

    return (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError)


def _engine_arguments(url: str) -> dict[str, Any]:
    if not url.startswith("sqlite"):
        return {"pool_pre_ping": True}  # a restarted server costs a ping, not a trial
    import sqlite3

    import sqlalchemy.pool

    class WalConnection(sqlite3.Connection):
        """Readers (`hpo status`) never block the driver, and a commit is one fsync instead of three."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.execute("PRAGMA journal_mode=WAL")

    return {
        "connect_args": {"timeout": LOCK_TIMEOUT_S, "factory": WalConnection},
        "poolclass": sqlalchemy.pool.NullPool if ":memory:" in url else sqlalchemy.pool.QueuePool,
    }


def open_existing(home: Home, name: str | None = None) -> RDBStorage:
    """The ledger that holds a study, or the home's own; for readers, who must not create one.

    Raises:
        UsageError: nothing was ever run in this home folder.
        InfrastructureError: as `open_storage`.
    """
    url = home.ledger_of(name) if name else home.ledger_url
    if url == home.ledger_url and not (home.path / "optuna.db").is_file():
        raise UsageError(f"no study was run in {home.path}; name another home folder by --home")
    return open_storage(url)
