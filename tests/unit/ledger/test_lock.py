"""One driver per study: the lock in the home folder."""

from __future__ import annotations

import os
import re
import shutil
from io import FileIO
from pathlib import Path

import pytest

from hpo.driver.run import run
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger import lock as lock_module
from hpo.ledger.lock import study_lock
from tests.conftest import synthetic_spec
from tests.support.views import RecordingView


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    """The command that watches it works on the home folder that holds the study."""
    home = Home.at(tmp_path / "my home").create()
    folder, place = home.study("leased"), f"leased --home '{home.path}'`"
    steps = re.escape(f"watch it with `hpo status {place}, or stop it first with `hpo stop {place}")
    refused = pytest.raises(UsageError, match=rf"is being run by process \d+ on \S+ since .*; {steps}")
    with study_lock(folder), refused, study_lock(folder):
        pass
    with study_lock(folder):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 3}', '{"pid": 1, "host": "elsewhere", "since": ""}'])
def test_a_lock_yields_the_previous_holder_only_if_it_died_on_this_host(tmp_path: Path, text: str) -> None:
    """The next driver ends the processes of a dead one. An orderly end and an unreadable file name no holder."""
    folder = tmp_path / "leased"
    with pytest.raises(KeyError), study_lock(folder, "its token"):
        raise KeyError  # like the death of a process: what it wrote stays
    with study_lock(folder) as before:
        assert before is not None
        assert (before.pid, before.token) == (os.getpid(), "its token")
    with study_lock(folder) as before:
        assert before is None
    (folder / "lock").write_text(text)
    with study_lock(folder) as before:
        assert before is None


def test_a_lock_file_that_was_removed_before_it_was_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver whose study could not start removes the folder, between the opening and the locking of the file."""
    folder = tmp_path / "leased"
    flock = lock_module.fcntl.flock

    def late(file: FileIO, operation: int) -> None:
        monkeypatch.setattr(lock_module.fcntl, "flock", flock)
        shutil.rmtree(folder)
        flock(file, operation)

    monkeypatch.setattr(lock_module.fcntl, "flock", late)
    with study_lock(folder), pytest.raises(UsageError, match="is being run"), study_lock(folder):
        pass


def refused(home: Home) -> None:
    """Try to start a study whose warm start names nothing that exists."""
    spec = synthetic_spec("leased", warm_start=["nowhere"])
    with pytest.raises(UsageError, match="nowhere is neither a study nor a file"):
        run(spec, home, view=RecordingView())


def test_a_refused_study_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither in a new home folder nor in one that is in use. Files that were there before stay."""
    home = Home.at(tmp_path / "home")
    refused(home)
    assert list(tmp_path.iterdir()) == []
    home.create()
    refused(home)
    assert list(home.path.iterdir()) == []
    for kept in (home.study("other"), home.study("leased")):
        kept.mkdir(parents=True)
        (kept / "best.yaml").touch()
    refused(home)
    found = {str(path.relative_to(home.path / "studies")) for path in home.path.rglob("*.yaml")}
    assert found == {"other/best.yaml", "leased/best.yaml"}
    assert not (home.path / "optuna.db").exists()
