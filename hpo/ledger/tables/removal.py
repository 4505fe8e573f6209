"""Removes a study from Optuna's tables, whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import sqlalchemy
from optuna.storages._rdb import models

from hpo.ledger.tables.trials import with_known_tables

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

OF_TRIALS = (
    models.TrialParamModel,
    models.TrialUserAttributeModel,
    models.TrialSystemAttributeModel,
    models.TrialIntermediateValueModel,
    models.TrialValueModel,
    models.TrialHeartbeatModel,
)
OF_STUDIES = (models.StudyUserAttributeModel, models.StudySystemAttributeModel, models.StudyDirectionModel)


def remove_study(storage: BaseStorage, name: str) -> None:
    """Remove a study with all its trials, in one transaction. Optuna's own way loads every row before it deletes it.

    Raises:
        KeyError: there is no such study.
    """
    tables = with_known_tables(storage)
    if tables is None:
        optuna.delete_study(study_name=name, storage=storage)
        return
    study = storage.get_study_id_from_name(name)
    trials = models.TrialModel.__table__
    mine = sqlalchemy.select(trials.c.trial_id).where(trials.c.study_id == study)
    with tables.engine.begin() as connection:
        for model in OF_TRIALS:
            rows = model.__table__
            connection.execute(sqlalchemy.delete(rows).where(rows.c.trial_id.in_(mine)))
        for rows in (trials, *(model.__table__ for model in OF_STUDIES), models.StudyModel.__table__):
            connection.execute(sqlalchemy.delete(rows).where(rows.c.study_id == study))
