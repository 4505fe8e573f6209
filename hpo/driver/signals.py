"""Ctrl-C and SIGTERM: once ends the study in order, twice ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

from hpo.errors import HpoError, InfrastructureError

terminal = 2
"""File descriptor of last words: another one while the live view keeps the standard error stream to itself."""


class Interrupted(HpoError):
    """A signal ended the study in order. Resumable; the command exits with 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.status = 128 + number


_early: list[int] = []
"""Signals received before a guard was there. What they raise may get lost inside an import, so they are kept."""


_unwinding = threading.Event()
"""A signal has ended the command before any trial was there; whatever is still running only ends."""


def handle_early() -> None:
    """From now on the first SIGINT or SIGTERM unwinds the command, wherever it is, and a second one leaves at once.

    SIGTERM too, because the kernel drops it for the first process of a container that does not handle it.
    """
    _early.clear()
    _unwinding.clear()
    sys.unraisablehook = _tell_lost
    threading.excepthook = _tell_thread
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _unwind)


def _tell_lost(lost: sys.UnraisableHookArgs) -> None:
    """Python's own report of an exception that got lost in a callback, but not of a signal's, which is made up for."""
    if not isinstance(lost.exc_value, Interrupted | SystemExit):
        sys.__unraisablehook__(lost)


def _tell_thread(lost: threading.ExceptHookArgs) -> None:
    """Python's own report of an error in a thread, but not where a signal takes Ray away from the threads that serve
    it, whose complaints would hide the last words."""
    if not _unwinding.is_set():
        threading.__excepthook__(lost)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    if _early:
        os._exit(128 + number)
    _early.append(number)
    _unwinding.set()
    sys.exit(128 + number)


class SignalGuard:
    """While active, the first SIGINT or SIGTERM ends the study in order and a second one leaves the process.

    Until `watch` is called there is no trial to wait for, and the first one raises `Interrupted` on the spot. What
    is being imported or started just then may swallow that or turn it into an error of its own; then `watch` or the
    end of the block makes up for it.
    """

    def __init__(self, farewell: str, clear: Callable[[], None] = lambda: None) -> None:
        """`farewell` is the first `farewell`; `clear` ends other processes where this one leaves at once."""
        self.received: int | None = None
        self.farewell = farewell
        """What to type next, for whoever ends the study early or has it ended by a fault outside of it."""
        self._clear = clear
        self._stop: Callable[[str], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalGuard:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._handle)
        if _early:
            raise self._interrupted(_early[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, Interrupted | InfrastructureError):
            error.advice = self.farewell
        elif error is not None and self.received is not None and self._stop is None:
            raise self._interrupted(self.received) from error

    def _interrupted(self, number: int) -> Interrupted:
        error = Interrupted(number)
        error.advice = self.farewell
        return error

    def watch(self, stop: Callable[[str], None]) -> None:
        """From now on the first signal calls `stop`."""
        self._stop = stop
        if self.received is not None:
            stop(f"interrupted by {signal.Signals(self.received).name}")

    def say(self, text: str) -> None:
        """Write last words past Python's buffers: whatever was interrupted may be inside one of them."""
        os.write(terminal, f"{text}\n".encode())

    def leave(self, code: int) -> NoReturn:
        """End the process at once, saying how to go on; with a signal's code if there was one."""
        self._clear()
        self.say(self.farewell)
        os._exit(code if self.received is None else 128 + self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is not None:
            self.say(f"{name} again: left at once")
            self.leave(1)
        self.received = number
        if self._stop is None:
            _unwinding.set()
            raise Interrupted(number)
        # To where everything is printed: the live view goes on and shows it as a note.
        os.write(2, f"{name}: stopping; once more leaves at once\n".encode())
        self._stop(f"interrupted by {name}")
