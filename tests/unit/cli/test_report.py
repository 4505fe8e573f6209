"""What `hpo report` prints, and `--open`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from click.testing import Result
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.home import Home
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from tests.conftest import synthetic_spec


@pytest.fixture
def begun(home: Home) -> Home:
    """A home with a study that has no trial."""
    home.study("begun").mkdir(parents=True)
    Ledger.create(open_storage(home.ledger_url), synthetic_spec("begun"), {}).close()
    return home


def report(home: Home, *options: str) -> Result:
    return CliRunner().invoke(app, ["report", "begun", "--home", str(home.path), *options], catch_exceptions=False)


def test_the_answer_the_next_command_and_a_link_that_terminals_open_are_printed(begun: Home, tmp_path: Path) -> None:
    done = report(begun, "-o", str(tmp_path / "of the study"))
    found, step, link = done.stdout.splitlines()
    assert found == "No trial is complete yet (1 trial: 1 waiting)."
    assert step.startswith("Next: Continue the study: hpo resume begun")
    assert " " not in link, "a terminal ends a link at a space"
    address = urlsplit(link)
    assert address.scheme == "file"
    assert Path(unquote(address.path)) == (tmp_path / "of the study" / "report.html").resolve()
    assert Path(unquote(address.path)).is_file()


class _Browser:
    """A browser that remembers what it was asked to open."""

    def __init__(self, starts: bool) -> None:
        self.starts, self.opened = starts, list[str]()

    def open(self, address: str) -> bool:
        self.opened.append(address)
        return self.starts


@pytest.mark.parametrize("starts", [True, False])
def test_the_page_is_opened_on_request_and_a_browser_that_fails_is_reported(
    begun: Home, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    browser = _Browser(starts)
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    report(begun)
    assert browser.opened == []
    done = report(begun, "--open")
    assert browser.opened == [done.stdout.splitlines()[-1]]
    assert ("Not opened: the browser did not start" in done.stderr) is not starts
    assert done.exit_code == 0


def test_a_machine_without_a_browser_says_so_after_the_report_is_written(
    begun: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Any:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    done = report(begun, "--open")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("file:///")
    assert "no browser that can be started from here" in done.stderr
    assert "report.html to a machine with a browser" in done.stderr
