"""What one call of the ledger writes of one trial, and the same through Optuna's own interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpo.ledger.tables.names import hidden

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, TrialState


@dataclass(frozen=True)
class Change:
    """Everything that is written of a trial at once. Writing it again changes nothing."""

    number: int
    attributes: Mapping[str, Any]
    """Attributes by name, at least one."""
    at: float
    """When it happened, in seconds since the epoch."""
    reports: Mapping[int, float] = field(default_factory=dict)
    """Intermediate values by step."""
    state: TrialState | None = None
    """The new state; None: it stays."""
    values: Sequence[float] | None = None
    """The final values; None for none."""
    begun: FrozenTrial | None = None
    """The trial with its parameters, if it begins."""


def send(storage: BaseStorage, study: int, change: Change) -> None:
    """Write a change value by value. A trial that begins is there already, with its parameters.

    The state comes last, so a driver that dies between two values leaves a trial that has not ended.
    """
    trial = storage.get_trial_id_from_study_id_trial_number(study, change.number)
    final = change.state is not None and change.state.is_finished()
    if final and storage.get_trial(trial).state.is_finished():
        return  # a second call, after the answer to the first one was lost
    for key, value in change.attributes.items():
        write = storage.set_trial_system_attr if hidden(key) else storage.set_trial_user_attr
        write(trial, key, value)
    for step, value in change.reports.items():
        storage.set_trial_intermediate_value(trial, step, value)
    if change.state is not None:
        storage.set_trial_state_values(trial, change.state, change.values)
