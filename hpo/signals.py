"""Ctrl-C and SIGTERM: once ends the study in order, twice ends the process at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

from hpo.errors import HpoError

terminal = 2
"""File descriptor of last words: another one while the live view keeps the standard error stream to itself."""


class Interrupted(HpoError):
    """A signal ended the study in order. Resumable; the command exits with 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.status = 128 + number


class SignalGuard:
    """While active, the first SIGINT or SIGTERM ends the study in order and a second one leaves the process.

    Until `watch` is called there is no trial to wait for, and the first one raises `Interrupted` on the spot.
    """

    def __init__(self, farewell: str, clear: Callable[[], None] = lambda: None) -> None:
        """`farewell` says how to go on; `clear` ends other processes. Both are for leaving at once."""
        self.received: int | None = None
        self._farewell = farewell
        self._clear = clear
        self._stop: Callable[[str], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalGuard:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self, stop: Callable[[str], None]) -> None:
        """From now on the first signal calls `stop`. Handlers are set again: `ray.init` takes SIGTERM for itself."""
        self._stop = stop
        for number in self._before:
            signal.signal(number, self._handle)

    def say(self, text: str) -> None:
        """Write last words past Python's buffers: whatever was interrupted may be inside one of them."""
        os.write(terminal, f"{text}\n".encode())

    def leave(self, code: int) -> NoReturn:
        """End the process at once, saying how to go on; with a signal's code if there was one."""
        self._clear()
        self.say(self._farewell)
        os._exit(code if self.received is None else 128 + self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is not None:
            self.say(f"{name} again: left at once")
            self.leave(1)
        self.received = number
        if self._stop is None:
            raise Interrupted(number)
        # To where everything is printed: the live view goes on and shows it as a note.
        os.write(2, f"{name}: stopping; once more leaves at once\n".encode())
        self._stop(f"interrupted by {name}")
