"""The folder of a new study: kept once the study is recorded, else removed without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.driver.study_folder import new_study_folder
from hpo.home import Home
from hpo.ledger.lock import Lease


def lease(home: Home) -> Lease:
    return Lease.here(str(home.study("new")))


def begin(home: Home, *, recorded: bool) -> None:
    """Begin a study that fails at once."""
    with new_study_folder(home, "new", lease(home)) as folder:
        (home.study("new") / "driver.log").write_text("something")
        if recorded:
            folder.keep()
        raise KeyError


def test_the_folder_of_a_study_that_was_not_recorded_is_removed_with_those_around_it(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    with pytest.raises(KeyError):
        begin(home, recorded=False)
    assert not home.path.exists()


def test_the_folder_of_a_recorded_study_is_kept(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    with pytest.raises(KeyError):
        begin(home, recorded=True)
    assert (home.study("new") / "driver.log").exists()


def test_what_other_studies_and_earlier_runs_left_is_never_removed(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    home.study("other").mkdir(parents=True)
    with new_study_folder(home, "new", lease(home)):
        pass
    assert not home.study("new").exists()
    assert home.study("other").is_dir()
    home.study("new").mkdir()
    (home.study("new") / "best.yaml").write_text("from an earlier run")
    with new_study_folder(home, "new", lease(home)):
        pass
    assert (home.study("new") / "best.yaml").exists()


def test_a_folder_that_holds_only_the_lock_of_a_killed_driver_is_removed(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    home.study("new").mkdir(parents=True)
    (home.study("new") / "lock").touch()
    with new_study_folder(home, "new", lease(home)):
        pass
    assert not home.study("new").exists()
