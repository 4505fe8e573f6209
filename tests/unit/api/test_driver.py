"""The process that drives a study for a program, as the program meets it: interrupts, faults, threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo.api import driver
from hpo.api.driver import drive
from hpo.api.messages import Line, Run
from hpo.errors import InfrastructureError
from hpo.home import Home


class Recorder:
    """Keeps what it is to show, and interrupts this process at a line as a stop button does."""

    def __init__(self, *interrupt_at: str) -> None:
        self.shown: list[str] = []
        self.closed = False
        self._interrupt_at = list(interrupt_at)

    def show(self, line: Line | None) -> None:
        if line is None:
            return
        self.shown.append(line.text)
        if self._interrupt_at and line.text.startswith(self._interrupt_at[0]):
            self._interrupt_at.pop(0)
            os.kill(os.getpid(), signal.SIGINT)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A shell lets what it starts in the background ignore interrupts, the whole suite too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No study is driven; `tests.support.pretended_driver` answers."""

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "tests.support.pretended_driver", command[-1]]
        return subprocess.Popen(words, **options)  # type: ignore[call-overload]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver, "subprocess", type("S", (), {**vars(subprocess), "Popen": staticmethod(popen)}))


def request(what: str) -> Run:
    return Run(Home.at(Path("home")), False, "pretended", None, (what,), False)


def test_a_study_that_ends_well_gives_its_name_and_all_its_lines() -> None:
    progress = Recorder()
    assert drive(request("end"), progress) == "pretended"
    assert (progress.shown, progress.closed) == (["a line"], True)


def test_an_interrupt_stops_in_order_and_says_how_to_continue() -> None:
    progress = Recorder("a line")
    with pytest.raises(KeyboardInterrupt, match=r"stopped in order; continue with hpo.resume\('pretended', home='"):
        drive(request("wait"), progress)
    assert progress.shown == ["a line", "interrupted: the study stops in order; a second interrupt ends it at once"]


def test_a_second_interrupt_ends_a_study_that_does_not_stop() -> None:
    with pytest.raises(KeyboardInterrupt):
        drive(request("stubborn"), Recorder("a line", "stopping"))


def test_an_error_of_the_driver_is_raised_with_its_advice() -> None:
    with pytest.raises(InfrastructureError, match="the disk is full") as failed:
        drive(request("fail"), Recorder())
    assert failed.value.advice == "free some space"
    assert sys.version_info < (3, 11) or failed.value.__notes__ == ["free some space"]


def test_the_last_words_of_a_driver_that_left_are_in_the_error_without_passwords() -> None:
    with pytest.raises(InfrastructureError, match=r"ended with exit code 4:(.|\n)*error: Ray died") as failed:
        drive(request("leave"), Recorder())
    assert "s3cret" not in str(failed.value)


def test_a_driver_that_is_killed_is_an_error_and_not_an_end() -> None:
    with pytest.raises(InfrastructureError, match="was ended by SIGKILL"):
        drive(request("die"), Recorder())


def test_a_fault_of_the_caller_lets_the_driver_know_that_it_is_alone(tmp_path: Path) -> None:
    class Broken(Recorder):
        def show(self, line: Line | None) -> None:
            if line is not None:
                raise ValueError("the notebook is gone")

    with pytest.raises(ValueError, match="the notebook is gone"):
        drive(request("stubborn"), Broken())
    deadline = time.monotonic() + 60
    while not (tmp_path / "left_alone").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_no_signal_is_taken_over_and_any_thread_will_do() -> None:
    handlers, names = list[object](), list[str]()

    class Looking(Recorder):
        def show(self, line: Line | None) -> None:
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=lambda: names.append(drive(request("end"), Looking())))
    before = signal.getsignal(signal.SIGINT)
    thread.start()
    thread.join(60)
    assert names == ["pretended"]
    assert set(handlers) == {before}
