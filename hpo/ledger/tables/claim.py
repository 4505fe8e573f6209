"""Who may write to a study: its holder's attribute, and the fence that keeps everybody else from writing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo.errors import InfrastructureError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import Connection, Engine, Select

    Check: TypeAlias = Callable[[Mapping[str, Any] | None], None]
    """Raises an error if the driver with this lease, or nobody, holds the study, and so this driver may not write."""


DELETED = (
    "the study was deleted from the ledger while it ran, for example in Optuna Dashboard, and cannot be continued; its "
    "checkpoints and its runs in MLflow are still there"
)


class Claim:
    """The attribute of a study that names its holder. It changes hands atomically, and guards the holder's writes."""

    def __init__(self, storage: BaseStorage, study: int, key: str) -> None:
        self._storage = storage
        self._study = study
        self._key = key
        self._engine = getattr(storage, "engine", None)  # None: in memory, which no other process sees

    def _attributes(self) -> Mapping[str, Any]:
        """The attributes of the study.

        Raises:
            InfrastructureError: the study is no longer in the ledger.
        """
        try:
            attributes: Mapping[str, Any] = self._storage.get_study_user_attrs(self._study)
        except KeyError as error:
            raise InfrastructureError(DELETED) from error
        return attributes

    def read(self) -> Mapping[str, Any] | None:
        """The holder's lease; None if nobody holds the study."""
        holder: Mapping[str, Any] | None = self._attributes().get(self._key)
        return holder

    def replace(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
        """Replace the holder if it is still `before`; returns whether it was."""
        missing = self._key not in self._attributes()
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

    def guard(self, check: Check | None, token: str = "") -> None:
        """From now on no transaction of this storage that wrote is committed unless this driver holds the study.

        Args:
            check: asks that of the holder at the end of a transaction; None ends the guard.
            token: of this driver's lease. Transactions that ask for it themselves are not asked again.
        """
        if self._engine is None:
            return
        import sqlalchemy

        fence = Fence(self._study, self._key, token, check) if check else None
        self._engine.update_execution_options(**{_FENCE: fence})
        for event, listener in (("after_cursor_execute", _note_write), ("commit", _ask_fence)):
            if not sqlalchemy.event.contains(self._engine, event, listener):
                sqlalchemy.event.listen(self._engine, event, listener)


class Fence:
    """Lets a transaction write only as long as this driver holds the study.

    It reads the holder inside the transaction. On a database server it locks the entry until the end of the
    transaction, and SQLite has one writer at a time, so the study cannot change hands between the check and the write.
    """

    def __init__(self, study: int, key: str, token: str, check: Check) -> None:
        self._study, self._key, self._token, self._check = study, key, token, check

    def ask(self, connection: Connection) -> None:
        """Raise the error of `check` unless this driver holds the study."""
        from optuna.storages._rdb.models import StudyUserAttributeModel as Row

        stored = connection.execute(self._entry(Row.value_json)).scalar()
        if stored is None:  # an orderly end leaves null, as JSON
            raise InfrastructureError(DELETED)
        self._check(json.loads(stored))

    def row(self, *columns: Any) -> Select[Any]:
        """These columns, in one row while this driver holds the study, else in none."""
        from optuna.storages._rdb.models import StudyUserAttributeModel as Row

        return self._entry(*columns).where(Row.value_json.contains(f'"token": {json.dumps(self._token)}'))

    def _entry(self, *columns: Any) -> Select[Any]:
        import sqlalchemy
        from optuna.storages._rdb.models import StudyUserAttributeModel as Row

        entry = sqlalchemy.select(*columns).where(Row.study_id == self._study, Row.key == self._key)
        return entry.with_for_update(read=True)


def fence_of(engine: Engine) -> Fence | None:
    """The fence of the driver that uses this engine; None if it holds no study."""
    fence: Fence | None = engine.get_execution_options().get(_FENCE)
    return fence


def fenced(connection: Connection) -> Connection:
    """A connection whose transactions ask the fence themselves."""
    return connection.execution_options(**{_FENCE: None})


_FENCE, _WROTE = "hpo_fence", "hpo_wrote"


def _note_write(
    connection: Connection, cursor: object, statement: str, parameters: object, context: Any, many: bool
) -> None:
    if context is not None and (context.isinsert or context.isupdate or context.isdelete):
        connection.info[_WROTE] = True


def _ask_fence(connection: Connection) -> None:
    fence = connection.get_execution_options().get(_FENCE)
    if connection.info.pop(_WROTE, False) and fence is not None:
        fence.ask(connection)
