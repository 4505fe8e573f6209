"""Receivers hear of a driver that was killed, and of no other twice."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hpo.cli.display import status
from hpo.cli.display.status import study_json
from hpo.driver.notify.last_words import KILLED
from hpo.driver.notify.survivor import Survivor
from hpo.home import Home
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.spec.notify import Notify
from tests.conftest import REPOSITORY, synthetic_spec
from tests.support.markdown import blocks
from tests.support.sample_records import BEGAN, busy

WAIT_S = 60.0
DRIVER = """
import os, sys, time
from pathlib import Path
from hpo.driver.notify.survivor import Survivor
from hpo.home import Home
from hpo.spec.notify import Notify

os.environ["MARKED"] = "by the driver"
survivor = Survivor(Notify(command="any"), Home(Path(sys.argv[1])), "told.confirmation", unmarked="MARKED")
print(survivor._process.pid, flush=True)
time.sleep(1000)
"""


def test_a_driver_that_is_killed_is_told_by_a_process_that_outlives_it(home: Home, tmp_path: Path) -> None:
    spec = synthetic_spec("told", notify={"command": f"cat > {tmp_path}/part && mv {tmp_path}/part {tmp_path}/body"})
    Ledger.create(open_storage(home.ledger_url), spec, {})
    command = [sys.executable, "-c", DRIVER, str(home.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True) as driver:
        assert driver.stdout is not None
        survivor = int(driver.stdout.readline())
        environment = Path(f"/proc/{survivor}/environ").read_bytes()
        _until_it_ignores(survivor, signal.SIGTERM)
        os.kill(survivor, signal.SIGTERM)  # as a batch system signals every process
        os.killpg(driver.pid, signal.SIGKILL)
    assert b"MARKED" not in environment, "what clears up after the driver would kill it"
    body = _body(tmp_path / "body")
    assert (body["event"], body["study"], body["state"], body["reason"]) == ("failure", "told", "interrupted", KILLED)


def _until_it_ignores(process: int, number: signal.Signals) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process}/status").read_text()
        if int(status.partition("SigIgn:")[2].split()[0], 16) >> (number - 1) & 1:
            return
        time.sleep(0.01)


def _body(file: Path) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_a_driver_that_says_farewell_is_told_by_nobody_else(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    survivor = Survivor(Notify(command="any"), home, "told")
    process = survivor._process
    assert process is not None
    survivor.close()
    assert process.returncode == 0, "it did not go on to the last words"
    survivor.close()


def test_a_driver_whose_survivor_was_killed_ends_as_usual(home: Home) -> None:
    survivor = Survivor(Notify(command="any"), home, "told")
    assert survivor._process is not None
    survivor._process.kill()
    survivor._process.wait()
    survivor.close()


@pytest.mark.parametrize("notify", [Notify(), Notify(command="any", on=["end", "best"])])
def test_nobody_survives_a_driver_that_has_nobody_to_tell(home: Home, notify: Notify) -> None:
    assert Survivor(notify, home, "told")._process is None


STATES = [
    (dataclasses.replace(busy(2), driver="open", sessions=((BEGAN, time.time() + 7_200),)), "running", False),
    (dataclasses.replace(busy(2), driver="open"), "silent", True),
    (dataclasses.replace(busy(0), driver="none"), "interrupted", True),
    (dataclasses.replace(busy(0), ended="budget.trials: reached the budget of 15 trials"), "finished", False),
    (None, None, True),
]
"""A study, its state, and whether the line for cron sends a mail; None: it cannot be read."""


@pytest.mark.parametrize(
    ("record", "state", "mailed"), STATES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_line_for_cron_sends_a_mail_of_a_study_that_needs_somebody(
    home: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    record: StudyRecord | None,
    state: str | None,
    mailed: bool,
) -> None:
    (line,) = blocks(REPOSITORY / "reports" / "docs" / "notifications.md", "sh")
    if record is not None:
        assert study_json(record, home)["state"] == state
        monkeypatch.setattr(status, "read_study", lambda home, name: record)
        status.show_study(home, record.name, as_json=False)
    (tmp_path / "status").write_text(capsys.readouterr().out)
    stubs = {"hpo": f"cat {tmp_path}/status; test -s {tmp_path}/status", "mail": f"touch {tmp_path}/mailed"}
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-c", line], env=os.environ | {"PATH": path}, check=True, timeout=WAIT_S)
    assert (tmp_path / "mailed").exists() == mailed
