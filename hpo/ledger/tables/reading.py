"""Reads all trials of a study at once, from Optuna's tables, as Optuna itself would return them."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pydantic_core
import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import Connection


ROWS = 10_000
"""Rows that are fetched together."""


def read_trials(
    storage: RDBStorage, study: int, known: Sequence[FrozenTrial] = (), *, reports: bool = True
) -> Iterator[tuple[int, FrozenTrial]]:
    """The trials of a study with their ids, in the order of their numbers.

    All are read at once, but each is made when it is its turn: texts take less memory than what they say.

    Args:
        known: trials that were read before. Those of them that have ended are left out, so that a look at a study that
            runs reads the trials that may have changed.
        reports: whether what was reported to Optuna is read.
    """
    trials = models.TrialModel.__table__
    wanted = _wanted(study, known)
    rows = sqlalchemy.select(
        trials.c.trial_id, trials.c.number, trials.c.state, trials.c.datetime_start, trials.c.datetime_complete
    ).where(wanted)
    with storage.engine.connect() as connection:
        # The trials first: of a trial that is seen, everything that was written with it is seen, too.
        found = connection.execute(rows.order_by(trials.c.number)).all()
        # The order of parameters is kept; what order the rest comes in says nothing, and sorting takes a while.
        written = models.TrialParamModel.__table__.c.param_id
        parameters = _children(connection, wanted, models.TrialParamModel, "param_name", _parameter(), written)
        attributes = _children(connection, wanted, models.TrialUserAttributeModel, "key", str)
        system = _children(connection, wanted, models.TrialSystemAttributeModel, "key", str)
        steps, values = defaultdict[int, dict[int, float]](dict), defaultdict[int, dict[int, float]](dict)
        if reports:
            steps = _children(connection, wanted, models.TrialIntermediateValueModel, "step", _report)
            values = _children(connection, wanted, models.TrialValueModel, "objective", _value)
    for trial, number, state, start, end in found:
        frozen = FrozenTrial(
            trial_id=trial,
            number=number,
            state=state,
            value=None,
            values=[value for _, value in sorted(values[trial].items())] if trial in values else None,
            datetime_start=_local(start),
            datetime_complete=_local(end),
            params={name: value for name, (value, _) in parameters[trial].items()},
            distributions={name: distribution for name, (_, distribution) in parameters[trial].items()},
            user_attrs=_decoded(attributes.pop(trial, {})),
            system_attrs=_decoded(system.pop(trial, {})),
            intermediate_values=steps[trial],
        )
        yield trial, frozen


def _wanted(study: int, known: Sequence[FrozenTrial]) -> Any:
    """The condition of rows of trials that may have changed since `known` was read."""
    trials = models.TrialModel.__table__
    mine = trials.c.study_id == study
    if not known:
        return mine
    unfinished = [trial._trial_id for trial in known if not trial.state.is_finished()]
    newest = max(trial._trial_id for trial in known)
    return mine & ((trials.c.trial_id > newest) | trials.c.trial_id.in_(unfinished))


_CONTENT = {
    models.TrialParamModel: ("param_value", "distribution_json"),
    models.TrialUserAttributeModel: ("value_json",),
    models.TrialSystemAttributeModel: ("value_json",),
    models.TrialIntermediateValueModel: ("intermediate_value", "intermediate_value_type"),
    models.TrialValueModel: ("value", "value_type"),
}
"""The columns that hold what a row says, by table."""


def _children(
    connection: Connection, wanted: Any, model: Any, key: str, read: Callable[..., Any], order: Any = None
) -> defaultdict[int, dict[Any, Any]]:
    """What the rows of a table say, by id of the trial and by key; in the order of the column `order`, or in any."""
    table, trials = model.__table__, models.TrialModel.__table__
    rows = (
        sqlalchemy.select(table.c.trial_id, table.c[key], *(table.c[name] for name in _CONTENT[model]))
        .join(trials, trials.c.trial_id == table.c.trial_id)
        .where(wanted)
        .order_by(order)
    )
    found: defaultdict[int, dict[Any, Any]] = defaultdict(dict)
    for part in connection.execute(rows).partitions(ROWS):
        ids, names, *content = zip(*part, strict=True)
        for trial, name, value in zip(ids, names, map(read, *content), strict=True):
            # All trials have the same few names.
            found[trial][sys.intern(name) if isinstance(name, str) else name] = value
    return found


def _decoded(texts: Mapping[str, str]) -> dict[str, Any]:
    """The values of JSON texts by name. One list of all is decoded faster than each text alone."""
    if not texts:
        return {}
    joined = f"[{','.join(texts.values())}]"
    try:
        values = pydantic_core.from_json(joined)  # three times as fast as Python's own
    except ValueError:  # which alone reads, for example, half of a surrogate pair
        values = json.loads(joined)
    return dict(zip(texts, values, strict=True))


def _parameter() -> Callable[[float, str], tuple[Any, BaseDistribution]]:
    """Reads a parameter. All trials of a study have the same few distributions, so each is read once."""
    known: dict[str, BaseDistribution] = {}

    def read(value: float, text: str) -> tuple[Any, BaseDistribution]:
        if text not in known:
            known[text] = json_to_distribution(text)
        return known[text].to_external_repr(value), known[text]

    return read


def _report(value: float | None, kind: Any) -> float:
    return models.TrialIntermediateValueModel.stored_repr_to_intermediate_value(value, kind)


def _value(value: float | None, kind: Any) -> float:
    return models.TrialValueModel.stored_repr_to_value(value, kind)


def _local(moment: datetime | None) -> datetime | None:
    """A time as Optuna returns it: without a zone, in local time."""
    return None if moment is None else datetime.fromtimestamp(moment.replace(tzinfo=timezone.utc).timestamp())
