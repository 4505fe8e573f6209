"""Writes a change of a trial to Optuna's tables in one transaction, as Optuna's own interface writes it in many.

Each statement replaces what is there, so a transaction whose answer was lost can be repeated.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import TrialState

from hpo.ledger.tables.changes import Change
from hpo.ledger.tables.claim import Fence, fence_of, fenced
from hpo.ledger.tables.names import hidden

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection, Table

    Row: TypeAlias = tuple[Table, Mapping[str, Any]]
    """A table, and what is written to one of its rows."""

TRIALS: Table = models.TrialModel.__table__
PARAMETERS: Table = models.TrialParamModel.__table__
ATTRIBUTES: Table = models.TrialUserAttributeModel.__table__
HIDDEN: Table = models.TrialSystemAttributeModel.__table__
REPORTS: Table = models.TrialIntermediateValueModel.__table__
VALUES: Table = models.TrialValueModel.__table__


def write(storage: RDBStorage, study: int, change: Change, trial: int | None) -> int:
    """Write a change in one transaction; returns the trial's id.

    Args:
        trial: the id; None for a trial that begins and was not enqueued.

    Raises:
        InfrastructureError: another driver took over the study; nothing is written.
    """
    fence = fence_of(storage.engine)
    with storage.engine.connect() as opened, fenced(opened) as connection, connection.begin():
        if change.begun is not None:
            trial = _begin(connection, study, change.begun, change.at, trial)
        assert trial is not None
        rows = list(_rows(trial, change))
        # Round trips to a server cost more than all else; only PostgreSQL takes several writes in one statement.
        groups = [rows] if connection.dialect.name == "postgresql" else [[row] for row in rows]
        for at, group in enumerate(groups):
            _write(connection, group, fence if at == 0 else None)
    return trial


def write_attributes(storage: RDBStorage, attributes: Mapping[int, Mapping[str, Any]]) -> None:
    """Write attributes of several trials, by the trial's id and by name, in one transaction.

    Raises:
        InfrastructureError: another driver took over the study; nothing is written.
    """
    first, *others = [row for trial, stored in attributes.items() for row in _attribute_rows(trial, stored)]
    with storage.engine.connect() as opened, fenced(opened) as connection, connection.begin():
        _write(connection, [first], fence_of(storage.engine))
        for table in (HIDDEN, ATTRIBUTES):
            if rows := [_named(0, row) for place, row in others if place is table]:
                connection.execute(_statement(connection.dialect.name, ((table, tuple(first[1])),)), rows)


def _attribute_rows(trial: int, attributes: Mapping[str, Any]) -> Iterator[Row]:
    for key, value in attributes.items():
        yield HIDDEN if hidden(key) else ATTRIBUTES, {"trial_id": trial, "key": key, "value_json": json.dumps(value)}


def _rows(trial: int, change: Change) -> Iterator[Row]:
    yield from _attribute_rows(trial, change.attributes)
    for step, report in change.reports.items():
        stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(report)
        yield (
            REPORTS,
            {"trial_id": trial, "step": step, "intermediate_value": stored, "intermediate_value_type": kind},
        )
    for objective, final in enumerate(change.values or ()):
        number, sort = models.TrialValueModel.value_to_stored_repr(final)
        yield VALUES, {"trial_id": trial, "objective": objective, "value": number, "value_type": sort}
    if change.state is not None:
        stamp = "datetime_complete" if change.state.is_finished() else "datetime_start"
        waits = change.state is TrialState.WAITING
        yield TRIALS, {"trial_id": trial, "state": change.state} | ({} if waits else {stamp: _utc(change.at)})


def _begin(connection: Connection, study: int, begun: FrozenTrial, at: float, trial: int | None) -> int:
    started = _utc(at)
    if trial is None:  # it is there after a transaction whose answer was lost
        same = (TRIALS.c.study_id == study, TRIALS.c.number == begun.number)
        trial = connection.execute(sqlalchemy.select(sqlalchemy.func.min(TRIALS.c.trial_id)).where(*same)).scalar()
    if trial is None:
        row = {"study_id": study, "number": begun.number, "state": TrialState.RUNNING, "datetime_start": started}
        key = connection.execute(sqlalchemy.insert(TRIALS).values(row)).inserted_primary_key
        assert key is not None
        trial = int(key[0])
    else:
        _write(connection, [(TRIALS, {"trial_id": trial, "state": TrialState.RUNNING, "datetime_start": started})])
    parameters = [
        {
            "trial_id": trial,
            "param_name": name,
            "param_value": begun.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(begun.distributions[name]),
        }
        for name, value in begun.params.items()
    ]
    if parameters:
        statement = _statement(connection.dialect.name, ((PARAMETERS, tuple(parameters[0])),))
        connection.execute(statement, [_named(0, row) for row in parameters])
    return trial


def _write(connection: Connection, rows: Sequence[Row], fence: Fence | None = None) -> None:
    """Write rows in one statement, with a fence only if this driver holds the study: that spares a round trip."""
    shape = tuple((table, tuple(row)) for table, row in rows)
    named = {name: value for at, (_, row) in enumerate(rows) for name, value in _named(at, row).items()}
    done = connection.execute(_statement(connection.dialect.name, shape, fence), named)
    if fence is not None and done.rowcount < 1:
        fence.ask(connection)
        raise AssertionError("the fence let a transaction through that it had refused")


def _named(at: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the row at this place of a statement."""
    return {_name(at, name): value for name, value in row.items()}


def _name(at: int, name: str) -> str:
    return f"row_{at}_{name}"


@functools.lru_cache(maxsize=64)
def _statement(dialect: str, shape: tuple[tuple[Table, tuple[str, ...]], ...], fence: Fence | None = None) -> Any:
    """Writes rows of these tables and columns. It is made once, because that takes longer than to execute it.

    Args:
        fence: keeps the first row, which is an attribute, from being written unless this driver holds the study.
    """
    first, *others = [
        _replacing(dialect, table, names, at, fence if at == 0 else None) for at, (table, names) in enumerate(shape)
    ]
    return first.add_cte(*(other.cte(f"part_{at}") for at, other in enumerate(others))).execution_options(
        preserve_rowcount=True
    )


def _replacing(dialect: str, table: Table, names: Sequence[str], at: int, fence: Fence | None) -> Any:
    """The statement for one row, which replaces the row that has the same trial and name, step or objective."""
    given = {name: sqlalchemy.bindparam(_name(at, name), type_=table.c[name].type) for name in names}
    if table is TRIALS:  # the row of a trial is there
        others = {name: value for name, value in given.items() if name != "trial_id"}
        return sqlalchemy.update(TRIALS).where(TRIALS.c.trial_id == given["trial_id"]).values(others)
    # SQLAlchemy has this clause in a class of its own for each database. The others are not loaded.
    family = "mysql" if dialect == "mariadb" else dialect
    insert = importlib.import_module(f"sqlalchemy.dialects.{family}").insert(table)
    insert = insert.values(given) if fence is None else insert.from_select(names, fence.row(*given.values()))
    (unique,) = (one for one in table.constraints if isinstance(one, sqlalchemy.UniqueConstraint))
    keys = [column.name for column in unique.columns]
    if family == "mysql":
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in names if name not in keys})
    return insert.on_conflict_do_update(
        index_elements=keys, set_={name: insert.excluded[name] for name in names if name not in keys}
    )


def _utc(at: float) -> datetime:
    """A time as Optuna stores it: in UTC, without a zone."""
    return datetime.fromtimestamp(at, timezone.utc).replace(tzinfo=None)
