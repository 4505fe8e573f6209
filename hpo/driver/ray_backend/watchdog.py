"""Ray watched while a study runs: a dead one must not keep the study, nor end it without a word."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from hpo.driver.conductor import Conductor
from hpo.errors import InfrastructureError

STOPPING_S = 40.0
"""How long Ray may take to end the trials once the study stops; Tune itself ends stubborn ones after 15 s."""
SILENCE_S = 15.0
"""How long a cluster's head may refuse connections before it is taken for dead. Left alone, Ray ends this process
after 60 s, without a word to the ledger."""


class Watchdog:
    """While active, a thread that calls `leave` when the main thread cannot be expected to end the study.

    That is so when Ray's own processes have died (its client then blocks, and ends the process by itself), and when
    Ray does not come to an end after the conductor stopped. `leave` must not return.
    """

    def __init__(self, conductor: Conductor, leave: Callable[[], None]) -> None:
        self._conductor = conductor
        self._leave = leave
        self._done = threading.Event()
        self._busy = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> None:
        import ray

        address = str(ray.get_runtime_context().gcs_address)
        self._children = _ray_children()
        self._address = (address.rpartition(":")[0].strip("[]"), int(address.rpartition(":")[2]))
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()  # for ever where it is leaving

    def _watch(self) -> None:
        heard, stopping = time.monotonic(), None
        while not self._done.wait(1.0):
            now = time.monotonic()
            if self._conductor.stopping is not None:
                stopping = stopping or now
            if dead := [name for pid, name in self._children.items() if not _alive(pid)]:
                return self._give_up(f"Ray died: {' and '.join(dead)} ended")
            if self._answers():
                heard = now
            if now - heard > SILENCE_S:
                return self._give_up(f"Ray died: its head at {':'.join(map(str, self._address))} does not answer")
            if stopping is not None and now - stopping > STOPPING_S:
                return self._give_up(f"Ray did not end the trials within {STOPPING_S:.0f} s")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(self._address, timeout=5):
                return True
        except OSError:
            return False

    def _give_up(self, reason: str) -> None:
        self._conductor.fail(InfrastructureError(reason))
        self._leave()


def _ray_children() -> dict[int, str]:
    """Ray's vital processes that this process started, by id; none on somebody else's cluster."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        if name in ("raylet", "gcs_server") and int(rest.split()[1]) == os.getpid():
            found[int(stat.parent.name)] = name
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
