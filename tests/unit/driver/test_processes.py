"""Which processes of this machine belong to a driver's Ray, and which of them are alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hpo.driver.ray_backend import cluster
from hpo.driver.ray_backend.cluster import MARK, end_processes, ray_session
from hpo.driver.ray_backend.slots import survey
from hpo.driver.ray_backend.watchdog import _alive, _ray_children
from tests.conftest import synthetic_spec

Start = Callable[..., subprocess.Popen[bytes]]

OPEN_FILE = "import sys, time\nwith open(sys.argv[1], 'w'):\n    print('open', flush=True)\n    time.sleep(60)"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that are ended after the test."""
    processes = []

    def start(*command: str, **options: object) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen(command, **options))  # type: ignore[call-overload]
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def dead_process() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends at once."""
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_processes_with_the_token_of_a_driver_are_ended_and_no_others(start: Start) -> None:
    marked = start("sleep", "60", env=os.environ | {MARK: "this"})
    other = start("sleep", "60", env=os.environ | {MARK: "another"})
    unmarked = start("sleep", "60")
    end_processes("this", dead_process())
    assert ended(marked)
    assert not ended(other)
    assert not ended(unmarked)


@pytest.mark.parametrize(("title", "driver_lives", "is_ended"), [
    ("ray::IDLE", False, True),
    ("ray::IDLE", True, False),
    ("python", False, False),
])  # fmt: skip
def test_titled_processes_of_a_dead_drivers_session_are_ended(
    start: Start, tmp_path: Path, title: str, driver_lives: bool, is_ended: bool
) -> None:
    """Ray's titles are written over the environment, so the token is gone; the session's log files tell."""
    driver = start("sleep", "60").pid if driver_lives else dead_process()
    log = tmp_path / f"session_2026-01-01_{driver}" / "worker.out"
    log.parent.mkdir()
    worker = start(title, "-c", OPEN_FILE, str(log), executable=sys.executable, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"open\n"
    end_processes("this", driver)
    assert ended(worker) is is_ended


def test_only_the_vital_processes_of_ray_are_watched_and_a_zombie_is_not_alive(start: Start) -> None:
    vital = start("sleep", "60")
    (process,) = [child for child in psutil.Process().children() if child.pid == vital.pid]
    assert process not in _ray_children(), "it is not called raylet"
    assert _alive(process)
    vital.kill()
    deadline = time.monotonic() + 10
    while _alive(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(process), "nobody has waited for it, so it is a zombie"
    vital.wait()
    assert not _alive(process)


def test_a_study_bound_to_some_cpus_of_a_machine_takes_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SLURM binds a job on a node that it shares; Ray by itself counts all CPUs of the machine."""
    begun: dict[str, object] = {}
    monkeypatch.setattr(cluster, "_start", lambda **options: begun.update(options))
    # Another test may have left its Ray in this process: it is neither taken nor ended.
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "_end", lambda *session: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 4, 5})
    assert survey(synthetic_spec()).concurrency == 3
    with ray_session(synthetic_spec(), verbose=False):
        assert begun["num_cpus"] == 3
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    with ray_session(synthetic_spec(), verbose=False):
        assert begun["num_cpus"] is None  # Ray counts better: it knows a container's limits
