"""What the Optuna storage holds, read without opening a study for writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo.errors import InfrastructureError, UsageError
from hpo.home import NAME, Home, confirmation_of, confirmed_study
from hpo.ledger import attributes as form
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_existing
from hpo.ledger.transfer import TRANSFER_KEY, Transfer
from hpo.spec.study import Spec

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

DISTRIBUTION = "hpo-efficientnetv2"


def load_study(storage: BaseStorage, name: str) -> StudyRecord:
    """The study's record, read without opening it for writing.

    Raises:
        UsageError: no study of that name, or its creation was cut off.
        InfrastructureError: another version of this tool wrote it.
    """
    import optuna

    if name not in optuna.get_all_study_names(storage):
        known = ", ".join(study_names(storage)) or "none yet"
        raise UsageError(f"there is no study named {name!r} here; known: {known}")
    study = optuna.load_study(study_name=name, storage=storage)
    attributes = study.user_attrs
    if form.SPEC_KEY not in attributes:
        raise UsageError(
            f"the study {name!r} was not created by this tool, or its creation was cut off before any trial; "
            f"in the latter case start it again by `hpo run`, else choose another name"
        )
    _check_schema(name, attributes)
    return StudyRecord(
        name=name,
        spec=_specification(name, attributes),
        info=form.info_of(attributes),
        trials=tuple(
            form.trial_from_frozen(trial, attributes.get(form.RUNS_KEY, {}))
            for trial in study.get_trials(deepcopy=False)
        ),
        transfer=Transfer.from_json(attributes.get(TRANSFER_KEY, {})),
        sessions=tuple(map(tuple, attributes.get(form.SESSIONS_KEY, ()))),
        repeats=repeats_of(storage, name),
        ended=attributes.get(form.ENDED_KEY),
    )


def read_study(home: Home, name: str) -> StudyRecord:
    """The record of a study of a home folder.

    Raises:
        As `load_study` and `hpo.ledger.storage.open_existing`.
    """
    return load_study(open_existing(home, name), name)


def repeats_of(storage: BaseStorage, name: str) -> tuple[TrialRecord, ...]:
    """The trials of a study's confirmation, () where it has none or is one itself."""
    import optuna

    confirmation = confirmation_of(name)
    if confirmed_study(name) is not None or confirmation not in optuna.get_all_study_names(storage):
        return ()
    study = optuna.load_study(study_name=confirmation, storage=storage)
    late = study.user_attrs.get(form.RUNS_KEY, {})
    return tuple(form.trial_from_frozen(trial, late) for trial in study.get_trials(deepcopy=False))


def study_names(storage: BaseStorage) -> Sequence[str]:
    """All studies of this tool in the storage that are whole, sorted; their confirmations belong to them."""
    import optuna

    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    whole = (one.study_name for one in summaries if form.SPEC_KEY in one.user_attrs)
    return sorted(name for name in whole if confirmed_study(name) is None)


def last_holder(storage: BaseStorage, name: str) -> Mapping[str, Any] | None:
    """The lease of the driver that has a study open, or had when it died; None after an orderly end."""
    import optuna

    holder: Mapping[str, Any] | None = optuna.load_study(study_name=name, storage=storage).user_attrs.get(
        form.HOLDER_KEY
    )
    return holder


def refuse_existing(storage: BaseStorage, name: str) -> None:
    """Raises UsageError where a study of that name exists: two of one name must never merge. One whose creation
    was cut off (ours, without a specification) or that is empty counts as none."""
    import optuna

    if name not in optuna.get_all_study_names(storage):
        return
    study = optuna.load_study(study_name=name, storage=storage)
    attributes = study.user_attrs
    ours = form.SCHEMA_KEY in attributes and form.SPEC_KEY not in attributes
    if ours or (not attributes and not study.get_trials(deepcopy=False)):
        return
    raise UsageError(
        f"a study named {name!r} exists already; go on with it by `hpo resume {name}`, "
        f"or choose another name: study=NAME"
    )


def _check_schema(name: str, attributes: Mapping[str, Any]) -> None:
    schema = attributes.get(form.SCHEMA_KEY, 0)
    version = _version(attributes)
    if schema > form.SCHEMA:
        raise InfrastructureError(
            f"the study {name!r} was written by a newer version of this tool (ledger schema {schema}, this one "
            f"reads {form.SCHEMA}); upgrade: pip install --upgrade '{DISTRIBUTION}>={version}'"
        )
    if schema < form.SCHEMA:
        raise InfrastructureError(
            f"the study {name!r} was written by an older version of this tool (ledger schema {schema}, this one "
            f"reads {form.SCHEMA}); go on with that version: pip install '{DISTRIBUTION}=={version}'"
        )


def _specification(name: str, attributes: Mapping[str, Any]) -> Spec:
    try:
        return Spec.from_json(attributes[form.SPEC_KEY])
    except ValueError as error:  # pydantic's: settings have come or gone since
        raise InfrastructureError(
            f"the specification of {name!r} was written by another version of this tool and cannot be read: {error}; "
            f"go on with that version: pip install '{DISTRIBUTION}=={_version(attributes)}'"
        ) from error


def _version(attributes: Mapping[str, Any]) -> str:
    return str(attributes.get(form.INFO_KEY, {}).get("versions", {}).get(DISTRIBUTION, "unknown"))


def ledger_with(home: Home, name: str) -> Any:
    """The ledger that holds a study of that name, None where there is none."""
    if not NAME.fullmatch(name):
        return None
    if home.ledger_of(name) == home.ledger_url and not (home.path / "optuna.db").is_file():
        return None
    storage = open_existing(home, name)
    return storage if name in study_names(storage) else None
