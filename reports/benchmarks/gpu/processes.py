"""Work in a process of its own: a crash, an error, a lack of memory or a standstill of one section ends only that one.

The processes are forked from a server that has imported torch and timm but has not touched the GPU. So each starts in
a moment instead of the ten seconds of these imports, and each has a CUDA context of its own.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from reports.benchmarks.gpu.settings import Settings

PRELOADED = ("trainers.finetune", "reports.benchmarks.training.contenders")
KEPT_LINES = 25
"""Last lines of what a section printed, which are kept if it failed or was stopped."""
GRACE = 10
"""Seconds after its limit at which a process ends by itself, should the command be gone that ends it."""

Message = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Ended:
    """How the process of a section ended."""

    state: Literal["complete", "stopped", "failed"]
    why: str = ""
    lines: list[str] = field(default_factory=list)
    """The last lines that it printed."""


class Processes:
    """Runs one process at a time."""

    def __init__(self, preloaded: Sequence[str] = PRELOADED) -> None:
        self._forking = multiprocessing.get_context("forkserver")
        self._forking.set_forkserver_preload(list(preloaded))

    def run(
        self,
        module: str,
        settings: Settings,
        seconds: float,
        arguments: Mapping[str, Any],
        received: Callable[[str, dict[str, Any]], None],
    ) -> Ended:
        """Call `run` of `module` in a new process, which ends after `seconds` at the latest.

        `received(key, result)` is called with each of its results as it comes.
        """
        receiver, sender = self._forking.Pipe(duplex=False)
        with tempfile.TemporaryDirectory() as folder:
            printed = Path(folder) / "printed.txt"
            process = self._forking.Process(
                target=_work, args=(module, settings, seconds, dict(arguments), sender, str(printed))
            )
            deadline = time.monotonic() + seconds
            try:
                process.start()
                sender.close()
                in_time = _pass_on(process, receiver, deadline, received)
            finally:
                if process.pid is not None:
                    _end(process)
                _drain(receiver, received)
            return _ended(in_time, process.exitcode, seconds, printed)


def _work(
    module: str, settings: Settings, seconds: float, arguments: Mapping[str, Any], sender: Connection, printed: str
) -> None:
    """The new process. It leads a group, so that the processes that it starts end with it."""
    os.setpgid(0, 0)
    file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.alarm(int(seconds) + GRACE)

    def send(key: str, result: Mapping[str, Any]) -> None:
        sender.send((key, dict(result)))

    importlib.import_module(module).run(settings, seconds, send, **arguments)


def _pass_on(
    process: BaseProcess, receiver: Connection, deadline: float, received: Callable[[str, dict[str, Any]], None]
) -> bool:
    """Pass results on until the process ends; return whether it ended in time."""
    while (left := deadline - time.monotonic()) > 0:
        ready = wait([receiver, process.sentinel], left)
        if receiver in ready:
            try:
                received(*receiver.recv())
            except EOFError:  # it has closed its end
                process.join(max(deadline - time.monotonic(), 0))
                return process.exitcode is not None
        elif ready:
            return True
    return False


def _end(process: BaseProcess) -> None:
    """End the process and all that it has started."""
    assert process.pid is not None, "it has been started"
    with suppress(ProcessLookupError, PermissionError):  # it has not become a leader yet, or all are gone
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _drain(receiver: Connection, received: Callable[[str, dict[str, Any]], None]) -> None:
    with receiver, suppress(EOFError, OSError):  # the last result may be cut
        while receiver.poll(0):
            received(*receiver.recv())


def _ended(in_time: bool, code: int | None, seconds: float, printed: Path) -> Ended:
    if in_time and code == 0:
        return Ended("complete")
    text = printed.read_text(encoding="utf-8", errors="replace") if printed.exists() else ""
    lines = text.strip().splitlines()[-KEPT_LINES:]
    if not in_time:
        return Ended("stopped", f"its time of {seconds:.0f} s was over", lines)
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return Ended("failed", f"its process ended with {how}", lines)
