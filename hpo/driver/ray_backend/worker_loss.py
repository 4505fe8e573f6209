"""Why a trial lost its worker, in words that a person can act on.

Ray reports a crash, a kill and a kernel without memory by the same paragraph. Other sources distinguish them: the
kernel counts its own kills, and a dead node does not answer.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

RECENT_S = 60.0
"""Seconds that Ray may take to report a worker that the kernel has killed."""
NODE_S = 3.0
"""Longest time, in seconds, that a node may take to accept a connection."""


def kernel_kills() -> int:
    """How many processes the kernel of this machine has killed for lack of memory since it started; 0 if it does not
    count them."""
    try:
        count = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(count[1]) if count else 0


class MemoryWatch:
    """Notices when the kernel of this machine kills for lack of memory; call `look` every few seconds."""

    def __init__(self, count: Callable[[], int] = kernel_kills, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._clock = count, clock
        self._kills = count()
        self._last: float | None = None

    def look(self) -> bool:
        """Whether the kernel has killed a process within the last minute."""
        now, kills = self._clock(), self._count()
        if kills > self._kills:
            self._kills, self._last = kills, now
        return self._last is not None and now - self._last < RECENT_S


class NodeWatch:
    """Notices dead nodes. The cluster's head takes half a minute to do so, so this asks the nodes themselves.

    A lost rack costs one look per node, and all looks together as long as one, however many workers were lost.
    """

    def __init__(
        self,
        nodes: Callable[[], Sequence[Mapping[str, Any]]],
        answers: Callable[[Mapping[str, Any]], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            nodes: as `ray.nodes`.
        """
        self._nodes, self._answers, self._clock = nodes, answers or _answers, clock
        self._silent: dict[str, float] = {}
        """When a node did not answer, by id."""

    def is_gone(self, node: str | None) -> bool:
        """Whether the node of that id is dead; if the id is not known, whether any node has just died."""
        alive = {entry["NodeID"]: entry for entry in self._nodes() if entry["Alive"]}
        if node not in alive and any(entry["NodeID"] == node for entry in self._nodes()):
            return True
        now = self._clock()
        self._silent = {known: since for known, since in self._silent.items() if now - since < RECENT_S}
        if node not in self._silent:
            self._look([entry for known, entry in alive.items() if known not in self._silent])
        return node in self._silent if node in alive else bool(self._silent.keys() & alive.keys())

    def _look(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """At all of them at once: where one is dead, others may be, whose trials ask next."""
        with ThreadPoolExecutor(max(1, len(entries))) as pool:
            answered = list(pool.map(self._answers, entries))
        now = self._clock()
        self._silent |= {entry["NodeID"]: now for entry, answer in zip(entries, answered, strict=True) if not answer}


def _answers(node: Mapping[str, Any]) -> bool:
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=NODE_S):
            return True
    except OSError:
        return False


def explain(said: str, *, host: str | None = None, node_gone: bool = False, starved: bool = False) -> str:
    """The reason of a loss, in words that follow "lost its worker".

    Args:
        said: Ray's message.
        host: where the worker ran; None if that is not known.
        node_gone: whether its node is dead too.
        starved: whether the kernel of that host has just killed a process for lack of memory.
    """
    place = f" on {host}" if host else ""
    if told := re.search(r"(?:DeviceLost|ProcessSpent): (.+)", said):  # of `hpo.driver.ray_backend.trainable`
        return f"{told[1]}{place}"
    if re.search(r"(running|run) low on memory|memory usage threshold|killed by (the )?memory monitor", said):
        return f"killed by Ray{place}: the host's memory was almost full"
    if node_gone or "node has died" in said or "node was terminated" in said:
        return f"its node was lost{place}"
    if starved:
        return f"killed by the kernel{place}: the host was out of memory"
    if "receives a SIGTERM" in said:
        return f"ended by SIGTERM{place}"
    if code := re.search(r"exit code (\d+)", said):
        return f"ended with exit code {code[1]}{place}"
    if "End of file" in said:
        return f"killed or crashed{place} (SIGKILL or a segmentation fault; for lack of memory see dmesg there)"
    if "unavailable" in said:
        return f"stopped answering{place}"
    lines = said.strip().splitlines()
    return lines[-1] if lines else "died without a message"
