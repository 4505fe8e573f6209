"""Writes the record of a new study."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optuna

from hpo.ledger import attributes
from hpo.ledger.transfer import NOTHING, TRANSFER_KEY, Transfer
from hpo.spec import objectives
from hpo.spec.study import Spec

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def create_study(
    storage: BaseStorage, name: str, spec: Spec, info: Mapping[str, Any], transfer: Transfer, *, enqueue: bool
) -> None:
    """Record a new study; one whose creation was cut off is begun again.

    Args:
        enqueue: whether it begins with the configurations that the specification enqueues.
    """
    if name in (study.study_name for study in storage.get_all_studies()):  # its creation was cut off
        optuna.delete_study(study_name=name, storage=storage)
    # Scores, of which larger is always better; objectives beside the primary one have their own direction.
    directions = ["maximize", *(other.direction for other in objectives.objectives(spec.objectives)[1:])]
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions, pruner=optuna.pruners.NopPruner()
    )
    _name_values(study, spec)
    study.set_user_attr(attributes.SCHEMA_KEY, attributes.SCHEMA)
    for values, stored in attributes.enqueued(spec.enqueue if enqueue else (), spec.space, transfer.first):
        study.enqueue_trial(values, user_attrs=stored)
    if transfer != NOTHING:
        study.set_user_attr(TRANSFER_KEY, transfer.to_json())
    study.set_user_attr(attributes.INFO_KEY, dict(info))
    # Last, so that every study with a specification is complete.
    study.set_user_attr(attributes.SPEC_KEY, spec.to_json())


def _name_values(study: optuna.Study, spec: Spec) -> None:
    """Tell Optuna Dashboard what the values of a trial are. Of a primary objective that is minimised the negative is
    stored."""
    primary, *others = objectives.objectives(spec.objectives)
    names = [primary.name if primary.maximize else f"-{primary.name}", *(other.name for other in others)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(names)
