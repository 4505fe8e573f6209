"""Reads studies from the Optuna storage without opening them for writing."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from hpo.errors import InfrastructureError, UsageError
from hpo.home import NAME, Home, confirmation_of, confirmed_study
from hpo.ledger import attributes
from hpo.ledger.lock import LOCK, driver_of, gone
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.steering.requests import requests_in
from hpo.ledger.storage import open_storage
from hpo.ledger.tables.renaming import called_before
from hpo.ledger.tables.trials import read_trials
from hpo.ledger.transfer import TRANSFER_KEY, Transfer
from hpo.spec.study import Spec
from hpo.sqlite_urls import sqlite_file

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.trial import FrozenTrial

DISTRIBUTION = "hpo-efficientnetv2"


def open_existing(home: Home, name: str | None = None) -> RDBStorage:
    """Open the ledger that holds a study, or the home's own ledger without a name. Never creates a ledger.

    Raises:
        UsageError: this home folder holds no study, or the study is not recorded yet or is half renamed.
        InfrastructureError: the study's ledger is missing; or as `open_storage`.
    """
    if name:
        home.refuse_half_renamed(name)
    url = home.ledger_of(name) if name else home.ledger_url
    file = sqlite_file(url)
    storage = None if file is not None and not file.is_file() else open_storage(url)
    if name and not (storage and _recorded(storage, name)) and (start := unrecorded(home, name)):
        raise UsageError(start)
    if storage is None:
        if name and home.study(name).is_dir():
            raise InfrastructureError(
                f"the ledger of {name!r}, {file}, is missing; put it back, if necessary from a backup. Without it, the "
                f"files in {home.study(name)} cannot be read"
            )
        raise UsageError(f"no study was run in {home.path}; name another home folder with --home")
    return storage


def unrecorded(home: Home, name: str) -> str | None:
    """What the folder of a study that no ledger has tells of its start; None if it tells nothing."""
    folder = home.study(name)
    if not folder.is_dir():
        return None
    if driver := driver_of(folder):
        return f"the study {name!r} is starting and has no record yet ({driver}); try again in a few seconds"
    killed = (folder / LOCK).is_file() and (folder / LOCK).stat().st_size > 0  # after an orderly end it is empty
    if killed and {file.name for file in folder.iterdir()} <= {LOCK, home.pointer(name).name}:
        return f"the start of the study {name!r} ended before anything was recorded; run the same command again"
    return None


def _recorded(storage: RDBStorage, name: str) -> bool:
    """Whether the storage has the study's specification, with which its record begins."""
    return attributes.SPEC_KEY in (_attributes(storage, name) or {})


def load_study(storage: BaseStorage, name: str) -> StudyRecord:
    """Read the record of a study.

    Raises:
        UsageError: there is no study of that name, or its creation was cut off.
        InfrastructureError: another version of this tool wrote the study.
    """
    return Follower(storage, name).read()


class Follower:
    """Reads the record of one study again and again. Each look reads the trials that have not ended, and new ones.

    Nothing changes a trial after its end, but that its run in MLflow may be linked. A study that was removed and made
    anew is another one, and is read from its beginning.
    """

    def __init__(self, storage: BaseStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._created: float | None = None
        self._frozen: Sequence[FrozenTrial] = ()
        self._records: dict[int, tuple[FrozenTrial, str | None, TrialRecord]] = {}
        """Of each trial: what was read, its run in MLflow that was linked late, and the record of both."""

    def read(self) -> StudyRecord:
        """The record now.

        Raises:
            As `load_study`.
        """
        stored = checked_attributes(self._storage, self._name)
        created = attributes.info_of(stored).get("created")
        if created != self._created:
            self._created, self._frozen, self._records = created, (), {}
        first = not self._frozen
        with _all_stay():
            study = _study(self._storage, self._name, stored, self._trials(stored))
            if first:
                gc.freeze()  # the next search for garbage would look at all of it
        return study

    def _trials(self, stored: Mapping[str, Any]) -> tuple[TrialRecord, ...]:
        study = self._storage.get_study_id_from_name(self._name)
        self._frozen = read_trials(self._storage, study, self._frozen, reports=False)
        late = stored.get(attributes.RUNS_KEY, {})
        return tuple(self._record(trial, late) for trial in self._frozen)

    def _record(self, trial: FrozenTrial, late: Mapping[str, str]) -> TrialRecord:
        run = late.get(str(trial.number))
        known = self._records.get(trial.number)
        if known is None or known[0] is not trial or known[1] != run:
            known = self._records[trial.number] = (trial, run, attributes.trial_from_frozen(trial, late))
        return known[2]


@contextmanager
def _all_stay() -> Iterator[None]:
    """Look for no garbage: all that is read stays, and looks at a million objects take half of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _study(storage: BaseStorage, name: str, stored: Mapping[str, Any], trials: tuple[TrialRecord, ...]) -> StudyRecord:
    driver = _driver(stored.get(attributes.HOLDER_KEY))
    return StudyRecord(
        name=name,
        spec=_specification(name, stored),
        info=attributes.info_of(stored),
        trials=trials,
        transfer=Transfer.from_json(stored.get(TRANSFER_KEY, {})),
        sessions=tuple(map(tuple, stored.get(attributes.SESSIONS_KEY, ()))),
        repeats=repeats_of(storage, name),
        ended=stored.get(attributes.ENDED_KEY),
        driver=driver,
        left_nodes=attributes.left_nodes(stored),
        packing=attributes.packing(stored),
        paused=attributes.pause(stored) if driver == "open" else None,
        stopping=attributes.stopping(stored) if driver == "open" else None,
        requests=requests_in(stored),
    )


def checked_attributes(storage: BaseStorage, name: str) -> dict[str, Any]:
    """The attributes of a study that this version of the tool can read; its trials are not read.

    Raises:
        As `load_study`.
    """
    stored = _attributes(storage, name)
    if stored is None:
        raise unknown_study(storage, name)
    if attributes.SPEC_KEY not in stored:
        raise UsageError(
            f"the study {name!r} was not created by this tool, or its creation was cut off before the first trial. "
            f"If it was cut off, start the study again with the same command; otherwise choose another name"
        )
    _check_schema(name, stored)
    _specification(name, stored)
    return stored


def unknown_study(storage: BaseStorage, name: str) -> UsageError:
    """The error for a name that no study of the storage has."""
    if now := called_before(storage, name):
        return UsageError(f"there is no study named {name!r} here; it was renamed to {' and '.join(now)}")
    names = ", ".join(study_names(storage)) or "none yet"
    return UsageError(f"there is no study named {name!r} here; studies: {names}")


def creation_time(storage: BaseStorage, name: str) -> float:
    """When a study was created, in seconds since the epoch; 0 if that is not recorded. Its trials are not read.

    Raises:
        As `load_study`.
    """
    return float(attributes.info_of(checked_attributes(storage, name)).get("created", 0.0))


def _attributes(storage: BaseStorage, name: str) -> dict[str, Any] | None:
    """The attributes of a study; None if there is none of that name."""
    try:
        return storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    except KeyError:
        return None


def _trials(storage: BaseStorage, name: str, stored: Mapping[str, Any]) -> tuple[TrialRecord, ...]:
    late = stored.get(attributes.RUNS_KEY, {})
    trials = read_trials(storage, storage.get_study_id_from_name(name), reports=False)
    return tuple(attributes.trial_from_frozen(trial, late) for trial in trials)


def _driver(holder: Mapping[str, Any] | None) -> Literal["none", "open", "dead"]:
    if holder is None:
        return "none"
    return "dead" if gone(holder) else "open"


def read_study(home: Home, name: str) -> StudyRecord:
    """Read the record of a study by its name.

    Raises:
        As `load_study` and `open_existing`.
    """
    return load_study(open_existing(home, name), name)


def repeats_of(storage: BaseStorage, name: str) -> tuple[TrialRecord, ...]:
    """The trials of a study's confirmation; empty if it has none or is a confirmation itself."""
    confirmation = confirmation_of(name)
    stored = None if confirmed_study(name) is not None else _attributes(storage, confirmation)
    return () if stored is None else _trials(storage, confirmation, stored)


def study_names(storage: BaseStorage) -> Sequence[str]:
    """Names of the complete studies of this tool in the storage, sorted, without their confirmations."""
    studies = storage.get_all_studies()
    names = (study.study_name for study in studies if attributes.SPEC_KEY in study.user_attrs)
    return sorted(name for name in names if confirmed_study(name) is None)


def last_holder(storage: BaseStorage, name: str) -> Mapping[str, Any] | None:
    """The lease of the driver that has the study open, or had it open when it died; None after an orderly end."""
    holder: Mapping[str, Any] | None = (_attributes(storage, name) or {}).get(attributes.HOLDER_KEY)
    return holder


def refuse_existing(storage: BaseStorage, name: str, home: Home | None = None) -> None:
    """Raise UsageError if a study of that name exists: two studies of one name must never merge.

    An empty study, and a study of this tool whose creation was cut off (it has no specification), do not count.

    Args:
        home: the home folder that the command of the message names; None for the default one.
    """
    stored = _attributes(storage, name)
    if stored is None:
        return
    ours = attributes.SCHEMA_KEY in stored and attributes.SPEC_KEY not in stored
    if ours or (not stored and not storage.get_n_trials(storage.get_study_id_from_name(name))):
        return
    again = (home or Home.at()).command(f"resume {name}")
    raise UsageError(
        f"a study named {name!r} exists already; continue it with `{again}`, or choose another name: study=NAME"
    )


def _check_schema(name: str, stored: Mapping[str, Any]) -> None:
    schema = stored.get(attributes.SCHEMA_KEY, 0)
    version = _version(stored)
    if schema > attributes.SCHEMA:
        raise InfrastructureError(
            f"the study {name!r} was written by a newer version of this tool (ledger schema {schema}, this version "
            f"reads {attributes.SCHEMA}); upgrade: pip install --upgrade '{DISTRIBUTION}>={version}'"
        )
    if schema < attributes.OLDEST_SCHEMA:
        raise InfrastructureError(
            f"the study {name!r} was written by an older version of this tool (ledger schema {schema}, this version "
            f"reads {attributes.OLDEST_SCHEMA} and later); use that version: pip install '{DISTRIBUTION}=={version}'"
        )


def _specification(name: str, stored: Mapping[str, Any]) -> Spec:
    try:
        return Spec.from_json(stored[attributes.SPEC_KEY])
    except ValueError as error:  # from pydantic: settings were added or removed since
        raise InfrastructureError(
            f"the specification of {name!r} was written by another version of this tool and cannot be read: {error}; "
            f"use that version: pip install '{DISTRIBUTION}=={_version(stored)}'"
        ) from error


def _version(stored: Mapping[str, Any]) -> str:
    return str(stored.get(attributes.INFO_KEY, {}).get("versions", {}).get(DISTRIBUTION, "unknown"))


def ledger_with(home: Home, name: str) -> Any:
    """The ledger that holds a study of that name; None if there is no such study."""
    if not NAME.fullmatch(name):
        return None
    if home.ledger_of(name) == home.ledger_url and not (home.path / "optuna.db").is_file():
        return None
    storage = open_existing(home, name)
    return storage if name in study_names(storage) else None
