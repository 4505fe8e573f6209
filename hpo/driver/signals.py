"""Ctrl-C and SIGTERM: the first one ends the study in order, the second one ends the process at once."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

from hpo.errors import InfrastructureError, Interrupted
from hpo.redact import redact

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""SIGTERM too, because the kernel drops it for the first process of a container that does not handle it."""
LAST_WORDS_S = 2.0
"""How long last words wait for a terminal or pipe that takes nothing."""


class SignalState:
    """What the handlers of this process share. There is one object, `state`, as there is one process."""

    def __init__(self) -> None:
        self.early: int | None = None
        """The signal received before a guard was active. Its exception may get lost inside an import."""
        self.unwinding = threading.Event()
        """Set when a signal ends the command before there is a trial to wait for: all other threads only end."""
        self._terminal = 2
        self._drain: Callable[[], object] = lambda: None

    def reset(self) -> None:
        """As in a process that has received no signal."""
        self.early = None
        self.unwinding.clear()

    @contextmanager
    def use_terminal(self, descriptor: int, drain: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Write last words to this file descriptor: a view keeps the standard error stream to itself.

        Args:
            drain: waits until what was printed before has arrived there.
        """
        before, (self._terminal, self._drain) = (self._terminal, self._drain), (descriptor, drain)
        try:
            yield
        finally:
            self._terminal, self._drain = before

    def say(self, text: str) -> None:
        """Write last words past Python's buffers, because the signal may have interrupted a write to one of them."""
        self._drain()
        _write(self._terminal, text, LAST_WORDS_S)


def _write(descriptor: int, text: str, patience: float) -> None:
    """Write a line, unless the descriptor takes nothing for `patience` seconds: it may be a pipe that nobody reads."""
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    if ready.poll(patience * 1000):
        with suppress(OSError):  # its reader has gone
            os.write(descriptor, f"{text}\n".encode())


state = SignalState()


def handle_early() -> None:
    """From now on the first SIGINT or SIGTERM unwinds the command, wherever it is, and a second one exits at once."""
    state.reset()
    sys.unraisablehook = _report_lost
    threading.excepthook = _report_thread
    for number in SIGNALS:
        signal.signal(number, _unwind)


def _report_lost(lost: sys.UnraisableHookArgs) -> None:
    """Report exceptions that got lost in a callback, except those of a signal: they are raised again later."""
    if not isinstance(lost.exc_value, Interrupted | SystemExit):
        sys.__unraisablehook__(lost)


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Report errors in threads, except while a signal ends Ray under the threads that use it: their tracebacks would
    hide the last words."""
    if not state.unwinding.is_set():
        threading.__excepthook__(failed)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    if state.early is not None:
        os._exit(128 + number)
    state.early = number
    state.unwinding.set()
    sys.exit(128 + number)


class SignalGuard:
    """While active, the first SIGINT or SIGTERM ends the study in order, and a second one exits at once.

    Before `watch` is called there is no trial to wait for, so the first signal raises `Interrupted` where it arrives.
    Code that is being imported or started may swallow that exception or turn it into another one. Then `watch`, or
    the end of the block, raises it again.
    """

    def __init__(self, farewell: str, clear: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            farewell: initial text of the attribute.
            clear: ends other processes before this one exits at once.
        """
        self.received: int | None = None
        """The signal that ended the study; SIGINT also if somebody asked for the end from elsewhere."""
        self.asked_by: str | None = None
        """Who asked for the end from elsewhere, as `user@host`."""
        self.farewell = farewell
        """What to type next after an interrupted study, or after a fault outside of it."""
        self._clear = clear
        self._stop: Callable[[str], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalGuard:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, self._handle)
        if state.early is not None:
            raise self._interrupted(state.early)
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
        """From now on the first signal calls `stop` with the reason."""
        self._stop = stop
        if self.received is not None:
            stop(f"interrupted by {signal.Signals(self.received).name}")

    def stop_for(self, by: str) -> None:
        """Somebody asks from elsewhere for what the first signal does. Call it after `watch`."""
        assert self._stop is not None
        if self.received is None:
            self.received, self.asked_by = signal.SIGINT, by
            self._stop(f"stopped by {by}")

    def exit_for(self, by: str) -> NoReturn:
        """Somebody asks from elsewhere for what the second signal does."""
        self.received = self.received or signal.SIGINT
        state.say(f"stopped at once by {by}")
        self._exit(1)

    def interruption(self) -> Interrupted | None:
        """The error that ends the command after a signal, or after somebody has asked for the end."""
        return None if self.received is None else Interrupted(self.received, self.asked_by)

    def finish_and_exit(self, finish: Callable[[], None]) -> NoReturn:
        """Call `finish`, report its error, and end the process, because the main thread cannot."""
        try:
            finish()
        except InfrastructureError as error:
            if self.received is None:  # else the signal caused it: it ended Ray's processes too
                state.say(f"error: {redact(str(error))}")
        except Exception:  # noqa: BLE001 - a mistake in this program; no other thread can report it
            state.say(redact(traceback.format_exc()))
        self._exit(InfrastructureError.exit_code)

    def _exit(self, code: int) -> NoReturn:
        """End the process at once and say how to continue; with a signal's code if there was one."""
        self._clear()
        state.say(self.farewell)
        os._exit(code if self.received is None else 128 + self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is not None:
            state.say(f"{name} again: exited at once")
            self._exit(1)
        self.received = number
        if self._stop is None:
            state.unwinding.set()
            raise Interrupted(number)
        # To the standard error stream: the live view keeps running and shows this line as a note.
        _write(2, f"{name}: stopping; a second signal exits at once", 0)
        self._stop(f"interrupted by {name}")
