"""A job that repeats at a bounded cost."""

from __future__ import annotations

import time
from collections.abc import Callable

IDLE_SECONDS_PER_SECOND = 20.0
"""Idle time after each second of work, so that a job whose cost grows with the study never slows training down."""


class Periodic:
    """Runs a job at most once per interval, and less often while the job is slow."""

    def __init__(self, interval: float, job: Callable[[], None], *, delay: float = 0.0) -> None:
        """`interval` and the `delay` before the first run are seconds."""
        self._interval = interval
        self._job = job
        self._due = time.monotonic() + delay

    def poll(self) -> None:
        """Run the job if it is due. What the job raises is passed on, and the next run waits all the same."""
        began = time.monotonic()
        if began < self._due:
            return
        try:
            self._job()
        finally:
            ended = time.monotonic()
            self._due = ended + max(self._interval, IDLE_SECONDS_PER_SECOND * (ended - began))
