"""Which folder is the home folder, and which folders cannot be one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpo.errors import UsageError
from hpo.home import Home
from hpo.spec.paths import with_absolute_paths
from hpo.sqlite_urls import sqlite_url
from tests.conftest import synthetic_spec


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


def test_a_home_folder_of_nobody_or_in_a_circle_of_links_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given by `--home` or by the environment variable."""
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    for path in ("~nobody_of_this_name/runs", str(tmp_path / "one" / "runs")):
        with pytest.raises(UsageError, match=r"cannot be used: .*; choose another folder with --home"):
            Home.at(Path(path))
        monkeypatch.setenv("HPO_HOME", path)
        with pytest.raises(UsageError, match=r"cannot be used: .*; choose another folder with --home"):
            Home.at()


def test_a_home_folder_without_a_url_for_its_databases_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy 2.0 does not decode the path of a URL."""
    monkeypatch.setattr("hpo.sqlite_urls.sqlite_file", lambda url: Path(url.removeprefix("sqlite:///").split("?")[0]))
    Home.at(tmp_path / "100%").create()
    with pytest.raises(UsageError, match=r"what\?x=1 cannot be used: .* use a path without '\?', or type: pip install"):
        Home.at(tmp_path / "what?x=1").create()
    assert [folder.name for folder in tmp_path.iterdir()] == ["100%"]


def test_a_home_folder_whose_path_is_too_long_for_sqlite_is_refused_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"its path has \d+ bytes, .* up to 470 bytes; choose a shorter path"):
        Home.at(tmp_path / "/".join(["y" * 200] * 3)).create()
    assert not list(tmp_path.iterdir())


def test_a_ledger_and_checkpoints_in_the_home_folder_move_with_it(tmp_path: Path) -> None:
    """Those elsewhere stay where they are."""
    home, other = Home.at(tmp_path / "a%20b").create(), str(tmp_path / "other")
    inside = synthetic_spec(storage={"checkpoints": str(home.path / "deep" / "er")})
    outside = synthetic_spec(storage={"checkpoints": other})
    for name, folder in (("inside", home.path), ("outside", tmp_path)):
        home.study(name).mkdir(parents=True)
        home.remember_ledger(name, sqlite_url(folder / "ledger.db"))
    stored = [with_absolute_paths(spec, home.path).storage.checkpoints for spec in (inside, outside)]
    assert home.checkpoints("inside", stored[0]) == f"{home.path}/deep/er/inside/checkpoints"

    moved = Home.at(home.path.rename(tmp_path / "moved"))
    assert moved.ledger_of("inside") == sqlite_url(moved.path / "ledger.db")
    assert moved.ledger_of("outside") == sqlite_url(tmp_path / "ledger.db")
    assert moved.checkpoints("inside", stored[0]) == f"{moved.path}/deep/er/inside/checkpoints"
    assert moved.checkpoints("outside", stored[1]) == f"{other}/outside/checkpoints"


def test_commands_to_type_next_name_the_home_folder_only_if_they_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPO_HOME", raising=False)
    assert Home.at().option == Home.at(Path("runs")).option == ""
    mine = Home.at(Path("my studies"))
    assert mine.command("status one", "--json") == f"hpo status one --home '{tmp_path}/my studies' --json"
    assert Home.of(mine.study("one")).command("ui") == mine.command("ui") == f"hpo ui --home '{tmp_path}/my studies'"
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "my studies"))
    assert mine.command("status one", "--json") == "hpo status one --json"
    assert Home.at(Path("runs")).option == f" --home {tmp_path}/runs"
