"""Writes a change of a trial to Optuna's tables in one transaction, as Optuna's own interface writes it in many.

Each statement replaces what is there, so a transaction whose answer was lost can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy.dialects import mysql, postgresql, sqlite

from hpo.ledger.tables.changes import Change
from hpo.ledger.tables.claim import Fence, fence_of, fenced

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection, Insert, Table

TRIALS: Table = models.TrialModel.__table__
PARAMETERS: Table = models.TrialParamModel.__table__
ATTRIBUTES: Table = models.TrialUserAttributeModel.__table__
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
        _attributes(connection, trial, change.attributes, fence)
        if change.reports:
            _replace(connection, REPORTS, [_report(trial, *report) for report in change.reports.items()])
        if change.values is not None:
            _replace(connection, VALUES, [_value(trial, *value) for value in enumerate(change.values)])
        if change.state is not None:
            _state(connection, trial, change.state, change.at)
    return trial


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
        _update(connection, trial, {"state": TrialState.RUNNING, "datetime_start": started})
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
        _replace(connection, PARAMETERS, parameters)
    return trial


def _attributes(connection: Connection, trial: int, attributes: Mapping[str, Any], fence: Fence | None) -> None:
    """Write the attributes; the first of them only if this driver holds the study, which spares a round trip."""
    rows = [{"trial_id": trial, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
    if fence is not None:
        first, *rows = rows
        row = fence.row(*(sqlalchemy.literal(value, ATTRIBUTES.c[name].type) for name, value in first.items()))
        into = _or_replace(_insert(connection, ATTRIBUTES).from_select(list(first), row), ATTRIBUTES, list(first))
        if connection.execute(into, execution_options={"preserve_rowcount": True}).rowcount < 1:
            fence.ask(connection)
            raise AssertionError("the fence let a transaction through that it had refused")
    if rows:
        _replace(connection, ATTRIBUTES, rows)


def _report(trial: int, step: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"trial_id": trial, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}


def _value(trial: int, objective: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial, "objective": objective, "value": stored, "value_type": kind}


def _state(connection: Connection, trial: int, state: TrialState, at: float) -> None:
    stamp = "datetime_complete" if state.is_finished() else "datetime_start"
    _update(connection, trial, {"state": state} | ({} if state is TrialState.WAITING else {stamp: _utc(at)}))


def _update(connection: Connection, trial: int, row: Mapping[str, Any]) -> None:
    connection.execute(sqlalchemy.update(TRIALS).where(TRIALS.c.trial_id == trial).values(row))


def _replace(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    connection.execute(_or_replace(_insert(connection, table).values(rows), table, list(rows[0])))


def _insert(connection: Connection, table: Table) -> Any:
    """SQLAlchemy has the clause that `_or_replace` adds in a class of its own for each database."""
    kinds = {"sqlite": sqlite.insert, "postgresql": postgresql.insert, "mysql": mysql.insert, "mariadb": mysql.insert}
    return kinds[connection.dialect.name](table)


def _or_replace(insert: Any, table: Table, names: Sequence[str]) -> Insert:
    """The statement, which replaces the row that has the same trial and name, step or objective."""
    (unique,) = (one for one in table.constraints if isinstance(one, sqlalchemy.UniqueConstraint))
    keys = [column.name for column in unique.columns]
    others = [name for name in names if name not in keys]
    if isinstance(insert, mysql.Insert):
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in others})
    replaced: Insert = insert.on_conflict_do_update(
        index_elements=keys, set_={name: insert.excluded[name] for name in others}
    )
    return replaced


def _utc(at: float) -> datetime:
    """A time as Optuna stores it: in UTC, without a zone."""
    return datetime.fromtimestamp(at, timezone.utc).replace(tzinfo=None)
