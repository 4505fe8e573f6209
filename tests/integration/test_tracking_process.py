"""The process that talks to MLflow: killed, signalled, and left alone by its driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.errors import InfrastructureError
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord
from hpo.tracking.mirror import Mirror
from hpo.tracking.process.child import SIGNALS, Child
from hpo.tracking.tracker import Tracker
from tests.conftest import REPOSITORY, synthetic_spec
from tests.support.sample_records import study, trial

DRIVER = """
import sys
from pathlib import Path
from hpo.home import Home
from hpo.tracking.process.child import Child
from hpo.tracking.tracker import Tracker
from tests.integration.test_tracking_process import ended

home, child = Home.at(Path(sys.argv[1])), Child()
child.ask(ended(20).spec, home)
child.answer()
tracker = Tracker.start(ended(20), home, child)
while tracker.behind > 12:
    pass
print(child._process.pid, "mlflow" in sys.modules, flush=True)
input()
"""


def ended(trials: int) -> StudyRecord:
    """A study with so many complete trials."""
    return study(*(trial(number, 16, ending=Ending.COMPLETE) for number in range(trials)))


def process_of(child: Child) -> int:
    """The number of its process."""
    assert child._process is not None
    return child._process.pid


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def left(recorded: StudyRecord, home: Home) -> list[str]:
    """What differs in MLflow, beside the links in the other direction, which a driver writes."""
    return [line for line in Mirror(recorded, home).differences(recorded) if "ledger does not know" not in line]


def test_a_killed_process_is_replaced_in_mid_study_and_loses_nothing(home: Home) -> None:
    """It dies while it writes; a signal to all processes, which is the driver's to judge, does not end it."""
    final, child = ended(20), Child()
    tracker = Tracker.start(ended(12), home, child)
    wait_for(lambda: tracker.behind < 8)
    first = process_of(child)
    os.kill(first, signal.SIGKILL)
    for record in final.trials[12:]:
        tracker.update(record)
    wait_for(lambda: process_of(child) != first)
    for number in SIGNALS:
        os.kill(process_of(child), number)
    assert tracker.close(final) is None
    assert tracker.behind == 0
    assert {number for number, _ in tracker.linked()} == set(range(20))
    assert left(final, home) == []


def test_a_process_ends_with_its_killed_driver_and_the_next_driver_finishes_its_work(home: Home) -> None:
    """The driver itself never imports MLflow."""
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", DRIVER, str(home.path)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": path}, stdin=-1, stdout=-1, text=True
    ) as driver:
        assert driver.stdout is not None
        process, imported = driver.stdout.readline().split()
        driver.kill()
    wait_for(lambda: not Path(f"/proc/{process}").exists(), 10.0)
    assert imported == "False"
    assert Tracker.start(ended(20), home).close(ended(20)) is None
    assert left(ended(20), home) == []


def test_a_process_that_dies_while_it_is_asked_refuses_the_start(home: Home) -> None:
    """The message names the remedy; a password of the server stands in no command line."""
    spec = synthetic_spec("asked", tracking={"uri": "http://me:s3cret-mlflow@127.0.0.1:1"})
    with Child() as child:
        child.ask(spec, home)
        assert b"s3cret" not in Path(f"/proc/{process_of(child)}/cmdline").read_bytes()
        child.kill()
        with pytest.raises(InfrastructureError, match=r"ended by SIGKILL.*tracking\.enabled=false") as refused:
            child.answer()
    assert "s3cret" not in str(refused.value)


def test_a_check_in_the_process_refuses_as_it_does_in_the_driver(home: Home) -> None:
    spec = synthetic_spec("asked", tracking={"uri": "http://me:s3cret-mlflow@127.0.0.1:1"})
    with Child() as child:
        child.ask(spec, home)
        with pytest.raises(InfrastructureError, match=r"does not answer.*start it, or set tracking\.uri") as refused:
            child.answer()
    assert "s3cret" not in str(refused.value)


def test_a_process_that_only_loads_mlflow_ends_with_its_driver_at_once(tmp_path: Path) -> None:
    spec, home = synthetic_spec("early"), Home.at(tmp_path)
    with Child() as child:
        child.load(spec, home)
        process = child._process
        assert process is not None
        assert process.poll() is None
    assert process.poll() == -signal.SIGKILL, "an import would go on for seconds"


def test_a_process_that_has_loaded_mlflow_answers_as_any_other(tmp_path: Path) -> None:
    spec, home = synthetic_spec("early"), Home.at(tmp_path)
    with Child() as child:
        child.load(spec, home)
        child.ask(spec, home)
        child.answer()
    off = spec.model_copy(update={"tracking": spec.tracking.model_copy(update={"enabled": False})})
    with Child() as child:
        child.load(off, home)
        assert child._process is None
