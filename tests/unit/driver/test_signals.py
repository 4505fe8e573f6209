"""SIGINT and SIGTERM at any moment of a command's life, also inside code that swallows what a handler raises."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from hpo.driver.signals import SignalGuard, handle_early
from hpo.errors import InfrastructureError, Interrupted

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What the test runner has, given back."""
    before = {number: signal.getsignal(number) for number in BOTH}
    hooks = sys.unraisablehook, threading.excepthook
    handle_early()
    yield
    handle_early()
    sys.unraisablehook, threading.excepthook = hooks
    for number, handler in before.items():
        signal.signal(number, handler)


def receive(number: int) -> None:
    """Send it to this process, which has it handled before anything else."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_before_the_guard_unwinds_the_command(number: int) -> None:
    with pytest.raises(SystemExit) as ended:
        receive(number)
    assert ended.value.code == 128 + number


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_that_an_import_swallowed_is_raised_again(number: int) -> None:
    with contextlib.suppress(BaseException):
        receive(number)
    with pytest.raises(Interrupted) as ended, SignalGuard("what to type"):
        pytest.fail("the study was begun")
    assert (ended.value.status, ended.value.advice) == (128 + number, "what to type")


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_during_the_start_is_raised_where_it_arrives(number: int) -> None:
    with pytest.raises(Interrupted) as ended, SignalGuard("what to type"):
        receive(number)
    assert (ended.value.status, ended.value.advice) == (128 + number, "what to type")


def test_threads_report_errors_except_while_a_signal_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    fail()
    assert "ZeroDivisionError" in capsys.readouterr().err
    with pytest.raises(Interrupted), SignalGuard("what to type"):
        receive(signal.SIGINT)
    fail()
    assert capsys.readouterr().err == ""


def into_an_error() -> None:
    """What some libraries make of any exception while they are imported."""
    try:
        receive(signal.SIGINT)
    except Exception:  # noqa: BLE001
        raise ImportError("half imported") from None


def test_a_signal_that_a_library_swallowed_or_changed_is_raised_again() -> None:
    """One turns it into an error of its own; one swallows it."""
    with pytest.raises(Interrupted) as ended, SignalGuard("what to type"):
        into_an_error()
    assert ended.value.status == 130
    stopped: list[str] = []
    with SignalGuard("what to type") as guard:
        with contextlib.suppress(Exception):
            receive(signal.SIGTERM)
        guard.watch(stopped.append)
    assert stopped == ["interrupted by SIGTERM"]


class Lock:
    """What the import system and logging clear up in callbacks."""


def lose(guard: SignalGuard) -> None:
    """Receive a signal inside such a callback, and then fail for want of what was cut short."""
    lock = Lock()
    gone = weakref.ref(lock, lambda reference: receive(signal.SIGTERM))
    del lock
    assert gone() is None
    assert guard.received == signal.SIGTERM
    raise ImportError("cut short")


def test_a_signal_that_gets_lost_in_a_callback_prints_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    guard = SignalGuard("what to type")
    with pytest.raises(Interrupted), guard:
        lose(guard)
    assert "Traceback" not in capfd.readouterr().err


def test_a_signal_during_training_stops_the_study(capfd: pytest.CaptureFixture[str]) -> None:
    stopped: list[str] = []
    with SignalGuard("what to type") as guard:
        guard.watch(stopped.append)
        receive(signal.SIGTERM)
        assert guard.received == signal.SIGTERM
    assert stopped == ["interrupted by SIGTERM"]
    assert "SIGTERM: stopping; a second signal exits at once" in capfd.readouterr().err


def test_other_errors_pass_the_guard_with_the_command_to_type_next() -> None:
    guard = SignalGuard("what to type")
    guard.farewell = "something else"
    with pytest.raises(InfrastructureError) as failed, guard:
        raise InfrastructureError("full")
    assert failed.value.advice == "something else"
    with pytest.raises(ZeroDivisionError), SignalGuard("what to type"):
        raise ZeroDivisionError
    with pytest.raises(SystemExit), SignalGuard("what to type"):
        raise SystemExit(3)
