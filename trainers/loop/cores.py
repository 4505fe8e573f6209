"""The number of threads of a training on a CPU that other programs use, too.

At the end of every operator torch's threads wait for each other. If another program has one of their cores, all wait
for it: on two cores beside one busy program, two threads train at six tenths of the speed of one. So there are only as
many threads as there are cores for them. The number can change the last bits of a result, as another processor can.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from trainers.api import Context

LOOK_S = 1.0
"""Seconds between two looks at the cores."""
ROUND_UP = 0.25
"""A thread more is worth it if at least three quarters of its core are free."""
STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Usage:
    """Seconds since any moment."""

    clock: float
    own: float
    """Processor time of this process."""
    idle: float
    """Time in which the cores that this process may use did nothing, summed over them."""


def usage() -> Usage | None:
    """Read the clocks now; None on a system that does not tell the idle time of its cores.

    Without it the number of threads would only ever fall. Some containers number the cores in the file anew (LXCFS),
    or show zeros (gVisor).
    """
    try:
        lines = {line.partition(" ")[0]: line.split() for line in STAT.read_text().splitlines()}
        cores = [lines[f"cpu{number}"] for number in os.sched_getaffinity(0)]
        ticks = sum(int(core[4]) + int(core[5]) for core in cores)  # idle, and waiting for a disk
        seconds = ticks / os.sysconf("SC_CLK_TCK")
        return Usage(time.monotonic(), time.process_time(), seconds) if ticks else None
    except (OSError, AttributeError, ValueError, LookupError):
        return None


def _bound(threads: int) -> bool:
    """Whether the environment binds each thread to a core of its own (OMP_PROC_BIND), so that this one, which asks, is
    shown fewer cores than there are threads."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < threads


def fitting(before: Usage, now: Usage, most: int) -> int:
    """Return how many threads have a core: of those that this process had or that idled, 1 to `most`."""
    seconds = now.clock - before.clock
    free = (now.own - before.own + now.idle - before.idle) / seconds
    return max(1, min(most, int(free + ROUND_UP)))


class Cores:
    """Sets torch's threads while a training runs, to `most` at first. `trainers.numerics.session` restores them."""

    def __init__(
        self, context: Context, read: Callable[[], Usage | None] | None = None, *, compiled: bool = False
    ) -> None:
        """
        Args:
            compiled: the number stays, because torch compiles a graph for one number of threads.
        """
        most = context.threads or torch.get_num_threads()
        self._most = most if context.device == "cpu" and not compiled else 1
        if _bound(self._most):
            self._most = 1
        self._read = read or usage
        self._threads = self._most
        self._before: Usage | None = None

    def begin(self) -> None:
        """Start an epoch with as many threads as the last one had in the end."""
        if self._most > 1:
            torch.set_num_threads(self._threads)
            self._before = self._before or self._read()  # epochs may be shorter than the time between two looks

    def look(self) -> None:
        """Between two steps: follow what other programs leave."""
        before = self._before
        if before is None or time.monotonic() - before.clock < LOOK_S:
            return
        if (now := self._read()) is not None:
            self._set(fitting(before, now, self._most))
        self._before = now

    def _set(self, threads: int) -> None:
        if threads != self._threads:
            torch.set_num_threads(threads)
            self._threads = threads
