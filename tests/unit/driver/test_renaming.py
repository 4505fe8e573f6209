"""A renamed study has one name everywhere; half a renaming is completed; looks at the test set keep counting."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from hpo.driver.steering import renaming as module
from hpo.driver.steering.removal import removal
from hpo.driver.steering.renaming import rename
from hpo.driver.study_folder import new_study_folder
from hpo.driver.warm_start import gather
from hpo.errors import UsageError
from hpo.export.files import Format, Request, export
from hpo.export.incumbent import Incumbent
from hpo.home import Home, confirmation_of
from hpo.ledger.lock import Lease, study_lock
from hpo.ledger.reader import open_existing, read_study
from hpo.ledger.storage import open_storage
from hpo.ledger.test_set_log import TestSetLog
from hpo.ledger.writer import Ledger
from hpo.results.best import training
from hpo.spec.training import Training
from hpo.sqlite_urls import sqlite_url
from hpo.validation.loader import load_training, parse_training
from tests.support.in_process_driver import finish, reopen
from tests.unit.driver.test_removal import make, spec_of


def study_of(home: Home, name: str) -> Any:
    return read_study(home, name)


def names(home: Home) -> list[str]:
    """All names in the home's ledger and among its folders."""
    storage = open_storage(home.ledger_url)
    found = {study.study_name for study in storage.get_all_studies()}
    return sorted(found | {path.name for path in (home.path / "studies").iterdir()})


def test_a_renamed_study_has_the_new_name_in_the_ledger_the_folder_and_the_files(home: Home) -> None:
    make(home, "old", confirmed=True)
    before = study_of(home, "old")
    Incumbent(home).update(before)
    export(home, Request("old", Format.HPO))
    changes = rename("old", "new", home).changes
    assert changes[0] == "ledger: old is now new, old.confirmation is now new.confirmation"
    assert changes[1] == f"folder: {home.study('new')}"
    assert names(home) == ["new", confirmation_of("new")]
    after = study_of(home, "new")
    assert (after.spec.study, after.former_names, after.driver) == ("new", ("old",), "none")
    assert after.trials == before.trials
    for file in (home.incumbent("new"), home.exports("new") / "best.yaml"):
        named = load_training(file)
        assert named.provenance is not None
        assert named.provenance.study == "new"
        assert " of study new, " in named.description
        assert named.config() == training(before).config()
    assert [file for file in home.study("new").rglob("*.yaml") if "old" in file.read_text()] == []
    assert not (home.path / "renaming").exists()


def test_a_renamed_study_is_resumed_under_its_new_name_from_its_checkpoints(home: Home) -> None:
    make(home, "old", storage={"keep": "all"})
    before = study_of(home, "old")
    rename("old", "new", home)
    spec = study_of(home, "new").spec.model_copy(update={"budget": before.spec.budget.model_copy(update={"trials": 4})})
    ledger = reopen(open_storage(home.ledger_url), spec)
    ledger.respecify(spec)
    ledger.end(None)
    assert list(Path(home.checkpoints("new")).iterdir())
    finish(ledger, Path(home.checkpoints("new")))
    assert study_of(home, "new").trials[:2] == before.trials
    assert len(study_of(home, "new").trials) == 4


def test_checkpoints_elsewhere_follow_and_those_of_others_stay(home: Home, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    for name in ("old", "older"):
        make(home, name, storage={"checkpoints": str(root), "keep": "all"})
    files = sorted(path.relative_to(root / "old") for path in (root / "old").rglob("*") if path.is_file())
    assert files
    rename("old", "new", home)
    assert sorted(path.relative_to(root / "new") for path in (root / "new").rglob("*") if path.is_file()) == files
    assert not list((root / "old").rglob("*"))
    assert list((root / "older").rglob("*"))


def test_a_study_with_a_ledger_of_its_own_is_found_there_under_its_new_name(home: Home, tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "own.db")
    spec = spec_of("old", storage={"ledger": url})
    home.study("old").mkdir(parents=True)
    home.remember_ledger("old", url)
    lease = Lease.here(str(home.study("old")))
    finish(Ledger.create(open_storage(url), spec, {}, None, lease), tmp_path)
    rename("old", "new", home)
    assert len(study_of(home, "new").trials) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("nobody", "new", "there is no study named 'nobody' here; studies: old, other"),
        ("old", "other", "there is a study named 'other' already; choose another name"),
        ("old", "a.b", "'a.b' is not a study name: use 1 to 64 letters"),
        ("old", "../up", "is not a study name"),
        ("old", "old", "old has that name already"),
        ("old", "left", "has files already; move it away"),
        ("old.confirmation", "new", "the name of the confirmation of old, which follows its study"),
    ],
)
def test_a_renaming_that_cannot_be_is_refused_and_changes_nothing(home: Home, old: str, new: str, said: str) -> None:
    make(home, "old")
    make(home, "other")
    home.study("left").mkdir()
    (home.study("left") / "note").touch()
    before = names(home)
    with pytest.raises(UsageError, match=said):
        rename(old, new, home)
    assert names(home) == before
    assert home.renames() == []


def test_a_study_whose_folder_is_gone_is_renamed_all_the_same(home: Home) -> None:
    make(home, "old")
    shutil.rmtree(home.study("old"))
    rename("old", "new", home)
    assert names(home) == ["new"]


def test_a_study_that_a_driver_runs_is_not_renamed(home: Home) -> None:
    make(home, "busy")
    with study_lock(home.study("busy")), pytest.raises(UsageError, match="is being run by process"):
        rename("busy", "new", home)
    assert names(home) == ["busy"]
    assert home.renames() == []


class Killed(BaseException):
    """The end of the process."""


STEPS = ["note_rename", "rename_studies", "_checkpoints", "_move_folder", "rename_in_files", "forget_rename"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_renaming_that_is_killed_at_any_step_is_completed_by_a_second_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    make(home, "old", confirmed=True)
    before = study_of(home, "old")
    owner: Any = Home if step in ("note_rename", "forget_rename") else module
    done = getattr(owner, step)

    def killed(*arguments: Any, **options: Any) -> Any:
        if after:
            list(done(*arguments, **options) or ())
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Home, "forget_rename", lambda *ignored: None)  # a killed process does nothing more
        patch.setattr(owner, step, killed)
        with pytest.raises(Killed):
            rename("old", "new", home)
    if home.renames():
        for name in ("old", "new"):
            with pytest.raises(UsageError, match="complete it with: hpo rename old new"):
                open_existing(home, name)
            with pytest.raises(UsageError, match="complete it with"), removal(name, home):
                pass
        lease = Lease.here(str(home.study("new")))
        with pytest.raises(UsageError, match="complete it with"), new_study_folder(home, "new", lease):
            pass
    rename("old", "new", home)
    assert names(home) == ["new", confirmation_of("new")]
    assert study_of(home, "new").trials == before.trials
    assert home.renames() == []
    assert rename("old", "new", home).changes == (), "a third one finds nothing to do"


# ---------------------------------------------------------------------------------------------- former names


def look(chosen: Training, home: Home) -> TestSetLog:
    """An evaluation on the test set."""
    log = TestSetLog(chosen, home)
    log.begin(0, home.path)
    log.end(0, 0.5)
    return log


def test_looks_at_the_test_set_keep_counting_also_for_files_that_have_a_former_name(home: Home) -> None:
    make(home, "first")
    chosen = training(study_of(home, "first"))
    look(chosen, home)
    rename("first", "second", home)
    assert TestSetLog(chosen, home).study == "second"
    assert look(chosen, home).before == 1
    rename("second", "third", home)
    assert look(chosen, home).before == 2
    rename("third", "first", home)
    assert study_of(home, "first").former_names == ("second", "third")
    assert look(chosen, home).before == 3
    again = parse_training(training(study_of(home, "first")).to_yaml(), "best.yaml")
    assert TestSetLog(again, home).before == 4


def test_a_new_study_of_the_former_name_with_the_same_seeds_takes_no_look_away(home: Home) -> None:
    make(home, "first")
    chosen = training(study_of(home, "first"), 0)
    look(chosen, home)
    rename("first", "second", home)
    make(home, "first", enqueue=[{"extra.quality": 0.123}])
    log = TestSetLog(chosen, home)
    assert (log.study, log.before) == ("second", 1)


def test_a_study_that_is_renamed_while_it_is_retrained_still_records_the_look(home: Home) -> None:
    make(home, "first")
    log = TestSetLog(training(study_of(home, "first")), home)
    rename("first", "second", home)
    log.begin(0, home.path)
    log.end(0, 0.5)
    log.retrained({"test_accuracy": 0.5})
    assert len(study_of(home, "second").info["test_set_evaluations"]) == 1
    assert len(study_of(home, "second").info["retrainings"]) == 1


def test_a_former_name_is_answered_with_the_present_one_and_still_starts_other_studies(home: Home) -> None:
    make(home, "first")
    rename("first", "second", home)
    with pytest.raises(UsageError, match="there is no study named 'first' here; it was renamed to second"):
        study_of(home, "first")
    (source,) = gather(spec_of("heir", warm_start=["first"]), home).sources
    assert source.trials == 2
    make(home, "heir", warm_start=["first"])
    with removal("second", home) as remains:
        assert remains.named_by == ("heir",)
