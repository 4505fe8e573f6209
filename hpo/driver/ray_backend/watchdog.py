"""Watch Ray while a study runs: if Ray dies, the study must neither hang nor end without a message."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

import psutil

from hpo.driver.conductor import Conductor
from hpo.errors import InfrastructureError

STOPPING_S = 40.0
"""How long Ray may take to end the trials once the study stops; Tune itself ends stubborn ones after 15 s."""
SILENCE_S = 15.0
"""How long a cluster's head may refuse connections before it counts as dead. By itself Ray ends this process after
60 s, before the ledger is in order."""


class Watchdog:
    """While active, a thread that calls `leave` when the main thread probably cannot end the study.

    This happens when Ray's own processes have died (its client then blocks, and later ends the process), and when Ray
    does not end after the conductor stopped.
    """

    def __init__(self, conductor: Conductor, leave: Callable[[], NoReturn]) -> None:
        self._conductor = conductor
        self._leave = leave
        self._done = threading.Event()
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
        self._thread.join()  # never returns while `leave` ends the process

    def _watch(self) -> None:
        answered, stopping = time.monotonic(), None
        while not self._done.wait(1.0):
            now = time.monotonic()
            if self._conductor.stopping is not None:
                stopping = stopping or now
            if dead := [name for process, name in self._children.items() if not _alive(process)]:
                return self._give_up(f"Ray died: {' and '.join(dead)} ended")
            if self._answers():
                answered = now
            if now - answered > SILENCE_S:
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


def _ray_children() -> dict[psutil.Process, str]:
    """The vital processes of Ray that this process started, with their names; none on a cluster of others."""
    children = {}
    for process in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended meanwhile
            if (name := process.name()) in ("raylet", "gcs_server"):
                children[process] = name
    return children


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False
