"""Gives studies other names in Optuna's tables, and finds studies by names that they had before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy
from optuna.storages._rdb import models

from hpo.ledger.attributes import INFO_KEY
from hpo.ledger.records import FORMER_NAMES

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage

STUDIES, ATTRIBUTES = models.StudyModel.__table__, models.StudyUserAttributeModel.__table__


@dataclass(frozen=True)
class NewName:
    """What becomes of one study."""

    name: str
    attributes: Mapping[str, Any]
    """Attributes that change with the name."""


def rename_studies(storage: RDBStorage, changes: Mapping[int, NewName]) -> None:
    """Rename studies, by id in the storage: all of them or, if an error is raised or the process dies, none.

    Raises:
        sqlalchemy.exc.IntegrityError: another study has such a name.
    """
    with storage.engine.begin() as connection:
        for study, change in changes.items():
            connection.execute(
                sqlalchemy.update(STUDIES).where(STUDIES.c.study_id == study).values(study_name=change.name)
            )
            for key, value in change.attributes.items():
                row, stored = {"study_id": study, "key": key}, {"value_json": json.dumps(value)}
                there = (ATTRIBUTES.c.study_id == study, ATTRIBUTES.c.key == key)
                if not connection.execute(sqlalchemy.update(ATTRIBUTES).where(*there).values(stored)).rowcount:
                    connection.execute(sqlalchemy.insert(ATTRIBUTES).values(row | stored))


def called_before(storage: BaseStorage, name: str) -> list[str]:
    """The present names of the studies that had this name before, sorted, without confirmations."""
    studies = ((study.study_name, study.user_attrs.get(INFO_KEY, {})) for study in storage.get_all_studies())
    return sorted(now for now, info in studies if "." not in now and name in info.get(FORMER_NAMES, ()))
