"""Ctrl-C and SIGTERM: once ends the study in order, twice ends the process at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from hpo.errors import HpoError


class Interrupted(HpoError):
    """A signal ended the study in order. Resumable; the command exits with 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.status = 128 + number


class SignalGuard:
    """While active, the first SIGINT or SIGTERM calls `stop` and a second one leaves the process.

    Leaving is by `os._exit`: Ray's reaper process then ends everything Ray started on this machine.
    """

    def __init__(self, stop: Callable[[str], None]) -> None:
        self.received: int | None = None
        self._stop = stop
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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        self._stop(f"interrupted by {signal.Signals(number).name}")
