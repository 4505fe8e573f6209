"""Which folder is the home folder, and which folders cannot be one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpo.cli.study import _home_option
from hpo.errors import UsageError
from hpo.home import Home


def test_a_home_folder_cannot_be_a_file_or_lie_in_a_file(tmp_path: Path) -> None:
    """The error is raised before anything is read from the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file cannot be used: it is a file; choose another folder with --home"):
        Home.at(tmp_path / "file")
    with pytest.raises(UsageError, match=r"Not a directory; choose another folder with --home"):
        Home.at(tmp_path / "file" / "home")


def test_a_home_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test simulates the refusal, because root, who may run it, can read every folder."""

    def refused(path: Path) -> None:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UsageError, match=r"Permission denied; choose another folder with --home"):
        Home.at(tmp_path)


def test_commands_to_type_next_name_the_home_folder_only_if_they_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPO_HOME", raising=False)
    assert _home_option(None) == _home_option(Path("runs")) == ""
    assert _home_option(Path("my studies")) == " --home 'my studies'"
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "mine"))
    assert _home_option(Path("mine")) == ""
    assert _home_option(Path("runs")) == " --home runs"
