"""Ctrl-C and SIGTERM: once ends the study in order, twice ends the process at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

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
    Leaving is by `os._exit`: Ray's reaper process then ends everything that Ray started on this machine.
    """

    def __init__(self, farewell: str) -> None:
        """`farewell` is printed by a second signal: how to go on."""
        self.received: int | None = None
        self._farewell = farewell
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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        # Written past Python's buffers: the interrupted frame may be inside one of them.
        if self.received is not None:
            os.write(terminal, f"{name} again: left at once\n{self._farewell}\n".encode())
            os._exit(128 + number)
        self.received = number
        if self._stop is None:
            raise Interrupted(number)
        os.write(2, f"{name}: stopping; once more leaves at once\n".encode())
        self._stop(f"interrupted by {name}")
