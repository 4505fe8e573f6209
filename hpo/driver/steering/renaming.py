"""`hpo rename`: give a study another name in the ledger, in the home folder and in MLflow, in this order.

The ledger says how a study is called: the name of the study and of its confirmation in Optuna's tables, `study` of the
specification, and the names that the study had before (`StudyRecord.former_names`). All else follows from it. A note in
the home folder (`Home.renames`) keeps everybody else away from both names until the folder and the files have followed.
MLflow may follow later, with the next driver or with `hpo doctor` (`hpo.tracking.upkeep.naming`). So the same command
completes a renaming that was cut off anywhere. Other studies keep the name under which they took over configurations.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from hpo.driver.steering.holding import held, is_there, ledger_if_there
from hpo.errors import HpoError, InfrastructureError, UsageError
from hpo.export.naming import rename_in_files
from hpo.home import Home, confirmation_of, confirmed_study
from hpo.ledger.attributes import INFO_KEY, SPEC_KEY
from hpo.ledger.lock import LOCK, driver_of
from hpo.ledger.reader import checked_attributes, load_study, open_existing, unknown_study
from hpo.ledger.records import FORMER_NAMES, StudyRecord
from hpo.ledger.tables.renaming import NewName, called_before, rename_studies
from hpo.redact import as_reason, redact
from hpo.spec.study import Spec
from hpo.text import first_line
from hpo.tracking.mirror import Mirror
from hpo.tracking.preflight import check_tracking
from hpo.tracking.upkeep.naming import experiment_stays


@dataclass(frozen=True)
class Renamed:
    """What was changed."""

    changes: tuple[str, ...]
    """A line each, for people."""
    trouble: str | None = None
    """Why MLflow has not all of it yet, and what to do; None if it has."""


def rename(
    old: str,
    new: str,
    home: Home,
    *,
    keep_mlflow: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Renamed:
    """Rename a study that no driver runs, with its confirmation, or complete what was cut off.

    Args:
        keep_mlflow: ask MLflow nothing. The experiment keeps its name; the runs get the new one with the next driver.
        say: tells the person what this waits for.

    Raises:
        UsageError: there is no study `old`, `new` is taken or is no name, or a driver runs the study. Nothing changes.
        InfrastructureError: the ledger cannot be reached, or MLflow cannot, before anything was changed.
    """
    _refuse_names(old, new, home)
    storage = _ledger(old, new, home)
    begun = not is_there(storage, old)
    if not begun:
        _refuse_taken(storage, new, home)
    here = home.study(new) if begun and not home.study(old).is_dir() else home.study(old)
    with held(storage, new if begun else old, here, say):
        changes = list(_changes(storage, old, new, home, begun=begun, keep_mlflow=keep_mlflow))
        found, trouble = _mlflow(storage, new, home) if not keep_mlflow else ([], None)
    return Renamed((*changes, *found), trouble)


def _refuse_names(old: str, new: str, home: Home) -> None:
    for name in (old, new):
        home.study(name)  # refuses what is no name
        if (confirmed := confirmed_study(name)) is not None:
            raise UsageError(f"{name} is the name of the confirmation of {confirmed}, which follows its study")
    if old == new:
        raise UsageError(f"{old} has that name already; name another one")
    for one, other in home.renames():
        if {one, other} & {old, new} and (one, other) != (old, new):
            home.refuse_half_renamed(one)


def _ledger(old: str, new: str, home: Home) -> Any:
    """The ledger that holds the study under its old name or, if a renaming came so far, under its new one."""
    place = old if home.study(old).is_dir() else new
    storage: Any = ledger_if_there(home, place) or open_existing(home)
    if is_there(storage, old):
        checked_attributes(storage, old)
    elif new not in called_before(storage, old):
        raise unknown_study(storage, old)
    return storage


def _refuse_taken(storage: Any, new: str, home: Home) -> None:
    remedy = "choose another name, or rename that one first"
    for name in (new, confirmation_of(new)):
        if is_there(storage, name) or is_there(ledger_if_there(home, new), name):
            raise UsageError(f"there is a study named {name!r} already; {remedy}")
    folder = home.study(new)
    if driver := driver_of(folder):
        raise UsageError(f"a study named {new!r} is starting ({driver}); choose another name")
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        raise UsageError(f"the folder {folder} has files already; move it away, or choose another name")


# ------------------------------------------------------------------------------------------------- the steps


def _changes(storage: Any, old: str, new: str, home: Home, *, begun: bool, keep_mlflow: bool) -> Iterator[str]:
    """Rename in the ledger and in the home folder; a line for each change that was made."""
    if not begun:
        stays = _experiment_stays(load_study(storage, old), home, new, keep_mlflow=keep_mlflow)
        home.note_rename(old, new)
        try:
            _refuse_names(old, new, home)  # again: from now on nobody else can take the name
            _refuse_taken(storage, new, home)
            names = _in_ledger(storage, old, new, keep_experiment=stays is not None)
        except BaseException:
            if is_there(storage, old):
                home.forget_rename(old, new)
            raise
        yield f"ledger: {', '.join(names)}"
        if stays is not None:
            yield f"MLflow's experiment keeps the name {old}: {stays}"
    study = load_study(storage, new)
    yield from _checkpoints(old, new, study.spec.storage.checkpoints, home)
    if home.study(old).is_dir():
        _move_folder(home.study(old), home.study(new))
        yield f"folder: {home.study(new)}"
    for file in rename_in_files(study, old, home):
        yield f"file: {file}"
    if (old, new) in home.renames():
        home.forget_rename(old, new)


def _experiment_stays(study: StudyRecord, home: Home, new: str, *, keep_mlflow: bool) -> str | None:
    """Why MLflow's experiment keeps its name; None if it gets the new one, or if it never had that of the study.

    Raises:
        InfrastructureError: MLflow cannot be reached.
    """
    tracking = study.spec.tracking
    if not tracking.enabled or (keep_mlflow and tracking.experiment is not None):
        return None
    if keep_mlflow:
        return "MLflow is left as it is"
    try:
        check_tracking(study.spec, home)
        return None if tracking.experiment else experiment_stays(Mirror(study, home).store.client, study, new)
    except Exception as error:  # MLflow and its stores raise errors of many kinds
        again = home.command(f"rename {study.name} {new} --keep-mlflow")
        reason = str(error) if isinstance(error, HpoError) else first_line(as_reason(str(error)))
        raise InfrastructureError(
            f"nothing was renamed, because MLflow cannot be asked: {reason}. Rename without it: {again}"
        ) from error


def _in_ledger(storage: Any, old: str, new: str, *, keep_experiment: bool) -> list[str]:
    """Rename the study and its confirmation at once; a text for each."""
    names = [(old, new), (confirmation_of(old), confirmation_of(new))]
    present = [(one, other) for one, other in names if is_there(storage, one)]
    changes = {
        storage.get_study_id_from_name(one): _new_name(
            storage.get_study_user_attrs(storage.get_study_id_from_name(one)), old, new, other, keep_experiment
        )
        for one, other in present
    }
    rename_studies(storage, changes)
    return [f"{one} is now {other}" for one, other in present]


def _new_name(stored: Mapping[str, Any], old: str, new: str, name: str, keep_experiment: bool) -> NewName:
    attributes: dict[str, Any] = {}
    if SPEC_KEY in stored:  # else its creation was cut off
        spec = Spec.from_json(stored[SPEC_KEY])
        experiment = spec.tracking.experiment
        if keep_experiment:
            experiment = experiment or old
        elif experiment == old and confirmed_study(name) is not None:
            experiment = new
        tracking = spec.tracking.model_copy(update={"experiment": experiment})
        attributes[SPEC_KEY] = spec.model_copy(update={"study": new, "tracking": tracking}).to_json()
    info = stored.get(INFO_KEY, {})
    before = [one for one in info.get(FORMER_NAMES, ()) if one not in (old, new)]
    attributes[INFO_KEY] = info | {FORMER_NAMES: [*before, old]}
    return NewName(name, attributes)


def _checkpoints(old: str, new: str, root: str | None, home: Home) -> Iterator[str]:
    """Move checkpoints that lie outside of the study's folder, file by file: not every store renames folders."""
    for one, other in ((old, new), (confirmation_of(old), confirmation_of(new))):
        source, target = home.checkpoints(one, root), home.checkpoints(other, root)
        if Path(source).is_relative_to(home.study(one)):
            continue
        system, start = fsspec.core.url_to_fs(source)
        _, end = fsspec.core.url_to_fs(target)
        files = system.find(start)
        for file in files:
            place = end + file[len(start) :]
            system.makedirs(place.rpartition("/")[0], exist_ok=True)
            system.mv(file, place)
        if files:
            with suppress(FileNotFoundError):  # a store of objects has no folders
                system.rm(start, recursive=True)
            yield f"checkpoints: {redact(target)}"


def _move_folder(old: Path, new: Path) -> None:
    if new.exists():  # it holds nothing but the lock of a driver that has ended
        shutil.rmtree(new)
    old.rename(new)


def _mlflow(storage: Any, new: str, home: Home) -> tuple[list[str], str | None]:
    """Let MLflow follow: what was changed, and what keeps it from all of it."""
    names = [name for name in (new, confirmation_of(new)) if is_there(storage, name)]
    studies = [load_study(storage, name) for name in names]
    studies = [study for study in studies if study.trials or study.name == new]  # nothing is said of no trial
    if not studies[0].spec.tracking.enabled:
        return [], None
    try:
        check_tracking(studies[0].spec, home)
        count = 0
        for study in studies:
            mirror = Mirror(study, home)
            count += mirror.store.followed
            mirror.finish(study)
    except Exception as error:  # noqa: BLE001 - MLflow and its stores raise errors of many kinds
        remedy = home.command(f"doctor {new}")
        return [], f"{new} has its name, but not in all of MLflow: {first_line(as_reason(str(error)))}. Go on: {remedy}"
    return [f"MLflow: {count} runs"] if count else [], None
