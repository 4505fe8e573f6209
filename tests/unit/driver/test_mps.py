"""The MPS daemon of a study: started where trials share a GPU, ended with the driver, however that ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from hpo.driver.gpus import mps
from hpo.driver.gpus.mps import PIPES, shared_by_mps
from hpo.driver.ray_backend.cluster import MARK
from hpo.gpu_sharing import Packing
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.drivers import REPOSITORY
from tests.support.mps_control import install, path_with


class Study:
    """A study's folder, with a short path, and the journal of the stand-in on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "study"
        self.pipes = self.folder / "mps" / "pipes"
        self.journal = install(folder)
        self.said: list[str] = []
        self.spec = synthetic_spec()

    @contextmanager
    def shared(self, spec: Spec, packing: Packing | None, folder: Path) -> Iterator[None]:
        """As `shared_by_mps`; what is told to a person is in `said`."""
        with shared_by_mps(spec, packing, folder) as said:
            self.said += [said] if said else []
            yield

    def lines(self) -> list[str]:
        return [line.split()[0] for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def daemon(self) -> int:
        return int((self.pipes / "control").read_text())


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    folder = Path(tempfile.mkdtemp(prefix="mps-", dir="/tmp"))  # sockets need short paths
    for name in ("RAY_ADDRESS", PIPES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", path_with(folder))
    monkeypatch.setattr(mps, "gpu_names", lambda: ["G"])
    monkeypatch.setattr(mps, "USUAL", folder / "usual")
    yield Study(folder)
    shutil.rmtree(folder)


def comes(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def gone(pid: int) -> bool:
    """Whether the process ends; where nobody waits for it, it stays as a zombie."""

    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return comes(ended)


def test_the_daemon_lives_as_long_as_the_block(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "of an earlier study of this process")
    with study.shared(study.spec, Packing(3, ""), study.folder):
        assert os.environ[PIPES] == str(study.pipes)
        pid = study.daemon()
        assert psutil.pid_exists(pid)
    assert gone(pid)
    assert PIPES not in os.environ
    assert study.said == ["trials share a GPU by NVIDIA's MPS"]
    start, quitted = study.journal.read_text().splitlines()
    assert start == f"start {study.pipes} {study.folder / 'mps' / 'log'} unmarked"
    assert quitted == "quit"
    assert study.pipes.stat().st_mode & 0o777 == 0o700


def test_an_error_in_the_block_ends_it_too(study: Study) -> None:
    with pytest.raises(ValueError, match="x"), study.shared(study.spec, Packing(2, ""), study.folder):
        raise ValueError("x")
    assert study.lines() == ["start", "quit"]


DRIVER = """
import sys, time
from pathlib import Path
from hpo.driver.gpus import mps
from hpo.gpu_sharing import Packing
from tests.conftest import synthetic_spec
mps.gpu_names = lambda: ["G"]
mps.USUAL = Path("/nowhere")
with mps.shared_by_mps(synthetic_spec(), Packing(2, ""), Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(600)
"""


def killed_driver(study: Study) -> int:
    """Number of the daemon of a driver that was killed with SIGKILL."""
    command = [sys.executable, "-c", DRIVER, str(study.folder)]
    driver = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "up\n"
    pid = study.daemon()
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    return pid


def test_a_killed_driver_leaves_no_daemon(study: Study) -> None:
    assert gone(killed_driver(study))
    assert comes(lambda: study.lines() == ["start", "quit"])


def test_what_a_driver_left_whose_shell_was_killed_too_is_ended_by_the_next_one(study: Study) -> None:
    study.pipes.mkdir(parents=True)
    sleeper = subprocess.Popen(["sleep", "600"])
    (study.pipes / "control").write_text(str(sleeper.pid))
    with study.shared(study.spec, Packing(2, ""), study.folder):
        assert sleeper.wait(60) == -signal.SIGTERM
    assert study.lines() == ["quit", "start", "quit"]


def test_without_the_program_trials_take_turns_and_it_is_said(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with study.shared(study.spec, Packing(2, ""), study.folder):
        assert PIPES not in os.environ
    assert study.said == ["trials take turns on a GPU, because nvidia-cuda-mps-control is not installed"]


def test_a_daemon_that_does_not_start_is_no_obstacle(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPS_BROKEN", "1")
    with study.shared(study.spec, Packing(2, ""), study.folder):
        assert PIPES not in os.environ
    log = study.folder / "mps" / "log" / "driver.log"
    expected = f"trials take turns on a GPU: nvidia-cuda-mps-control ended with exit code 1; see {log}"
    assert study.said == [expected]
    assert log.read_text() == "no GPU for MPS\n"
    assert study.lines() == []


def test_the_daemon_of_others_is_used_and_left_alone(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    mps.USUAL.mkdir()
    (mps.USUAL / "control").touch()
    with study.shared(study.spec, Packing(2, ""), study.folder):
        assert PIPES not in os.environ
    monkeypatch.setenv(PIPES, "/of/the/site")
    with study.shared(study.spec, Packing(2, ""), study.folder):
        assert os.environ[PIPES] == "/of/the/site"
    assert os.environ[PIPES] == "/of/the/site"
    assert [text.partition(" of ")[0] for text in study.said] == ["trials share a GPU by the MPS daemon"] * 2
    assert study.lines() == []


def test_a_long_path_is_too_long_for_its_pipes(study: Study) -> None:
    with study.shared(study.spec, Packing(2, ""), study.folder / ("x" * 80)):
        assert PIPES not in os.environ
    assert study.said[0].endswith("is too long for the pipes of MPS")


@pytest.mark.parametrize(
    ("packing", "changes"),
    [
        (Packing(1, ""), {}),
        (None, {}),
        (None, {"resources": {"gpus": 1}}),
        (Packing(2, ""), {"resources": {"device": "cpu"}}),
        (Packing(2, ""), {"ray": {"address": "127.0.0.1:6379"}}),
    ],
)
def test_where_no_gpu_is_shared_there_is_none(
    study: Study, packing: Packing | None, changes: dict[str, object]
) -> None:
    with study.shared(synthetic_spec(**changes), packing, study.folder):
        pass
    assert (study.lines(), study.said) == ([], [])


def test_a_fraction_that_a_person_set_has_it_too(study: Study) -> None:
    with study.shared(synthetic_spec(resources={"gpus": 0.5}), None, study.folder):
        pass
    assert study.lines() == ["start", "quit"]
