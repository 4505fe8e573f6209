"""Faults while a driver starts: a signal at any moment, no Ray, no data, no ledger."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpo.home import Home
from hpo.ledger.reader import study_names
from hpo.ledger.storage import open_storage
from tests.conftest import REPOSITORY, synthetic_spec
from tests.support.drivers import Driver

NOTHING = "Nothing is recorded yet: run the same command again"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A study that would train for a minute."""
    path = tmp_path / "spec.yaml"
    path.write_text(synthetic_spec("late", extra={"seconds": 8.0, "light": True}).to_yaml())
    return path


def handles(pid: int, number: int) -> bool:
    """Whether a process handles a signal by itself."""
    found = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


def test_a_signal_during_the_imports_ends_the_command_without_a_traceback(home: Home, spec: Path) -> None:
    """From the moment when the command has control, several times during the imports."""
    for number, delay in ((signal.SIGINT, 0.0), (signal.SIGTERM, 0.6), (signal.SIGINT, 1.4), (signal.SIGTERM, 2.4)):
        process = subprocess.Popen(
            [sys.executable, "-m", "hpo", "run", str(spec), "--home", str(home.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            start_new_session=True,
        )
        while not handles(process.pid, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(number)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 128 + number, said
        assert "Traceback" not in said
        assert "Exception ignored" not in said


@pytest.mark.ray
def test_a_signal_during_the_start_of_ray_leaves_no_process(home: Home, spec: Path) -> None:
    """Nothing is left running, and the last line says how to continue."""
    drivers = []
    for number, delay in ((signal.SIGINT, 0.5), (signal.SIGTERM, 1.5), (signal.SIGTERM, 3.0), (signal.SIGINT, 4.0)):
        driver = Driver.start("run", spec, home=home.path)
        drivers.append(driver)
        time.sleep(delay)
        driver.signal(number)
        assert driver.wait() == 128 + number, driver.text
        assert "Traceback" not in driver.text
        recorded = (home.path / "optuna.db").exists() and "late" in study_names(open_storage(home.ledger_url))
        assert driver.text.strip().splitlines()[-1] == ("Continue with: hpo resume late" if recorded else NOTHING)
        if recorded:
            break
    for driver in drivers:
        assert driver.orphans() == []


def test_a_ray_that_is_not_there_or_cannot_start_is_one_error_within_seconds(home: Home, spec: Path) -> None:
    """A cluster of which nobody answers is told within seconds, not after Ray's many minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    for environment, said in (
        ({"RAY_ADDRESS": nobody}, f"Ray at {nobody} cannot be reached: [Errno 111] Connection refused"),
        ({"RAY_TMPDIR": "/proc/nowhere"}, "Ray cannot be started on this machine: [Errno 2] No such file"),
    ):
        driver = Driver.start("run", spec, home=home.path, **environment)
        assert driver.wait() == 4, driver.text
        assert said in driver.text
        assert driver.text.strip().splitlines()[-1] == NOTHING
        assert "Traceback" not in driver.text
        assert driver.orphans() == []
        assert list(home.path.iterdir()) == []


def test_a_data_set_that_is_missing_or_damaged_is_one_error_before_any_trial(home: Home, tmp_path: Path) -> None:
    """It names the path and the remedy; nothing is recorded."""
    path = tmp_path / "real.yaml"
    path.write_text(
        "study: real\nmodel: {name: tf_efficientnetv2_b0, pretrained: false}\n"
        "space:\n  train.lr: {type: float, low: 1e-4, high: 1e-2, log: true}\n"
    )
    folder = tmp_path / "data" / "cifar-10-batches-py"
    for problem in ("is missing", "is truncated or altered"):
        driver = Driver.start("run", path, f"data.root={tmp_path / 'data'}", home=home.path)
        assert driver.wait() == 2, driver.text
        assert f"error: cifar10: {folder / 'data_batch_1'} {problem}" in driver.text
        assert "data.download=true" in driver.text
        lines = driver.text.strip().splitlines()
        assert [line for line in lines if line.startswith("error")] == lines[-1:], "after what the start was doing"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data_batch_1").write_bytes(b"half of it")
    assert list(home.path.iterdir()) == []


def test_every_command_says_that_the_ledger_is_gone(home: Home) -> None:
    """No command shows a traceback, and none begins a new ledger in its place."""
    home.study("late").mkdir(parents=True)
    for command in (("resume", "late"), ("status", "late"), ("export", "late"), ("report", "late"), ("doctor", "late")):
        driver = Driver.start(*command, home=home.path)
        assert driver.wait() == (1 if command[0] == "doctor" else 4), driver.text
        assert f"the ledger of 'late', {home.path}/optuna.db, is missing; put it back" in driver.text
        assert "Traceback" not in driver.text
        assert not (home.path / "optuna.db").exists()
