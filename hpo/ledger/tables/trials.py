"""The trials of one study: in the database, and in memory for the samplers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from hpo.ledger.attributes import of_trial, searched
from hpo.ledger.storage import patiently
from hpo.ledger.tables import reading, transactions
from hpo.ledger.tables.changes import Change, send
from hpo.ledger.tables.names import START_KEY

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

SCHEMAS = frozenset({"v3.2.0.a"})
"""Versions of Optuna's tables that this package reads and writes; others it leaves to Optuna's own interface."""
DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mariadb"})


def with_known_tables(storage: BaseStorage) -> RDBStorage | None:
    """The storage, if this package knows its tables."""
    if not isinstance(storage, RDBStorage) or storage.engine.dialect.name not in DATABASES:
        return None
    return storage if storage.get_current_version() in SCHEMAS else None


def read_trials(
    storage: BaseStorage, study: int, known: Sequence[FrozenTrial] = (), *, reports: bool = True
) -> list[FrozenTrial]:
    """The trials of a study, in the order of their numbers. Do not change them.

    Args:
        known: what an earlier call returned; trials that have ended are not read again.
        reports: whether what was reported to Optuna is needed; the records take nothing from it.
    """
    if (tables := with_known_tables(storage)) is not None:
        changed = [trial for _, trial in reading.read_trials(tables, study, known, reports=reports)]
        again = {trial.number for trial in changed}
        kept = [trial for trial in known if trial.number not in again]
        return sorted([*kept, *changed], key=lambda trial: trial.number)
    return storage.get_all_trials(study, deepcopy=False)


class Trials:
    """The trials of the study that a driver has open.

    `study` is what samplers see. It is kept in memory, so that a suggestion asks nothing of the database, and its
    trials are never newer than the database, but for the one that is being asked for. What no sampler reads of their
    epochs is left out there: the ledger's records have it.
    """

    def __init__(self, storage: BaseStorage, study: Study) -> None:
        self._storage = storage
        self._stored = study
        self._tables = with_known_tables(storage)
        self._ids: dict[int, int] = {}
        self._slims = len(study.directions) == 1  # with several objectives samplers read all metrics
        self.study = study

    @property
    def seals(self) -> bool:
        """Whether a trial that has ended cannot be written to any more."""
        return self._tables is None

    def read(self) -> Iterator[FrozenTrial]:
        """Read all trials, and yield each with all its attributes. Do not change them, and take all of them."""
        if self._tables is None:
            yield from self.study.get_trials(deepcopy=False)
            return
        held: list[FrozenTrial] = []
        self._ids = {}
        for key, trial in reading.read_trials(self._tables, self._stored._study_id):
            yield trial
            self._ids[trial.number] = key
            trial._user_attrs, trial._system_attrs = self._slim(trial.user_attrs), self._slim(trial.system_attrs)
            held.append(trial)
        self.study = _in_memory(self._stored, held)

    def all(self) -> list[FrozenTrial]:
        """All trials by number. Do not change them."""
        return self.study.get_trials(deepcopy=False)

    def ask(self) -> Trial:
        """Begin the next enqueued trial, else a new one. It is recorded when the change that begins it is written.

        Optuna's own `ask` would begin any trial that waits, also one that has begun and is to be resumed."""
        study, storage = self.study, self.study._storage
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        enqueued = [trial for trial in waiting if START_KEY not in of_trial(trial)]
        if len(enqueued) == len(waiting):
            return study.ask()
        if not enqueued:
            return Trial(study, storage.create_new_trial(study._study_id))
        storage.set_trial_state_values(enqueued[0]._trial_id, TrialState.RUNNING)
        return Trial(study, enqueued[0]._trial_id)

    def enqueue(self, values: Mapping[str, Any], attributes: Mapping[str, Any], *, same: str) -> FrozenTrial:
        """Add a trial that `ask` begins before any new one. Call it while no trial is being asked for.

        Args:
            same: name of the attribute that tells this trial from all others: one that has it already is not added
                again, as after a write whose answer was lost.
        """
        waiting = create_trial(
            state=TrialState.WAITING, system_attrs={"fixed_params": dict(values)}, user_attrs=dict(attributes)
        )
        there = self._storage.get_all_trials(self._stored._study_id, deepcopy=False, states=(TrialState.WAITING,))
        added = next((one for one in there if one.user_attrs.get(same) == attributes[same]), None)
        key = self._storage.create_new_trial(self._stored._study_id, waiting) if added is None else added._trial_id
        if self._tables is None:  # samplers see the stored study itself
            return self._storage.get_trial(key)
        number = self._storage.get_trial_number_from_id(key)
        self._ids[number] = key
        mirrored = self.study._storage.create_new_trial(self.study._study_id, waiting)
        assert mirrored == number, "the copy in memory has the same trials"
        return self.frozen(number)

    def write(self, change: Change) -> None:
        """Write a change, and wait for a database server that is restarting."""
        patiently(self._storage, lambda: self._write(change))

    def _write(self, change: Change) -> None:
        if self._tables is not None:
            ids, study = self._ids, self._stored._study_id
            ids[change.number] = transactions.write(self._tables, study, change, ids.get(change.number))
            if change.state is None and self.frozen(change.number).state.is_finished():
                return  # no sampler needs what is said of a trial after its end
            change = replace(change, attributes=self._slim(change.attributes))
        send(self.study._storage, self.study._study_id, change)

    def write_attributes(self, attributes: Mapping[int, Mapping[str, Any]]) -> None:
        """Write attributes of several trials, by number and name, and wait for a server that is restarting."""
        patiently(self._storage, lambda: self._write_attributes(attributes))

    def _write_attributes(self, attributes: Mapping[int, Mapping[str, Any]]) -> None:
        if self._tables is not None:
            by_id = {self._ids[number]: stored for number, stored in attributes.items()}
            transactions.write_attributes(self._tables, by_id)
        for number, stored in attributes.items():
            if self._tables is None or not self.frozen(number).state.is_finished():
                stored = stored if self._tables is None else self._slim(stored)
                send(self.study._storage, self.study._study_id, Change(number, stored, at=0.0))

    def _slim(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return searched(attributes) if self._slims else dict(attributes)

    def frozen(self, number: int) -> FrozenTrial:
        """A trial as Optuna has it."""
        storage, study = self.study._storage, self.study._study_id
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study, number))

    def running(self) -> list[FrozenTrial]:
        """The trials that Optuna has begun."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def put_back(self, number: int) -> None:
        """Let a trial that was asked for, but not recorded, be asked for again, with the parameters that it has."""
        if number in self._ids:
            self._storage.set_trial_state_values(self._ids[number], TrialState.WAITING)
        self.study._storage.set_trial_state_values(self.frozen(number)._trial_id, TrialState.WAITING)


class _Memory(InMemoryStorage):
    """Optuna's storage in memory, with trials that are numbered and stored elsewhere."""

    def fill(self, study: int, trials: Iterable[FrozenTrial]) -> None:
        """Take over all trials of a study at once; `create_new_trial` would copy each of them deeply."""
        held = self._studies[study]
        for trial in trials:
            trial._trial_id = trial.number
            held.trials.append(trial)
            held.param_distribution.update(trial.distributions)
            self._trial_id_to_study_id_and_number[trial.number] = (study, trial.number)
        self._max_trial_id = len(held.trials) - 1


def _in_memory(study: Study, trials: Iterable[FrozenTrial]) -> Study:
    """A study with the same trials and attributes, which asks nothing of the database."""
    memory = _Memory()
    copied = memory.create_new_study(study.directions, study.study_name)
    for key, value in study.user_attrs.items():
        memory.set_study_user_attr(copied, key, value)
    memory.fill(copied, trials)
    return optuna.load_study(study_name=study.study_name, storage=memory, sampler=study.sampler, pruner=study.pruner)
