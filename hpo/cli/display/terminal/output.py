"""Keep everything that this process prints off its terminal or pipe, in a file; pass it on from there if asked to."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from hpo.driver.signals import state

LOOK_S = 0.1
"""Time between two looks for new output."""
PATIENCE_S = 5.0
"""How long the end waits for a reader that takes nothing. One that reads slowly gets everything."""
PORTION = 4096
"""Bytes that are passed on at once. A pipe takes so many whole or not at all."""


@contextmanager
def captured(path: Path) -> Iterator[TextIO]:
    """Append everything that this process and its libraries print to a file; yield where descriptor 2 led.

    Libraries write to file descriptors 1 and 2 without Python's streams, so the descriptors themselves are replaced. A
    file takes everything at once; a pipe that nobody reads would stop whoever prints. Only the owner can read the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    terminal = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors="replace")
    for descriptor in saved:
        os.dup2(log, descriptor)
    os.close(log)
    try:
        yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, before in saved.items():
            os.dup2(before, descriptor)
            os.close(before)
        terminal.close()


@contextmanager
def relayed(path: Path) -> Iterator[None]:
    """Pass on to descriptor 2, by way of a file, everything that this process and its libraries print.

    What the reader did not take is left in the file. If it takes nothing at the end, all later output of this process
    goes there too, because it would wait for the reader.

    Raises:
        OSError: the reader has gone, or its disk is full; raised at the end of the block, if nothing else is.
    """
    with captured(path) as stream:
        relay = Relay(path, stream.fileno())
        try:
            with state.use_terminal(stream.fileno(), relay.drain):
                yield
        finally:
            relay.close()
    if relay.error is not None:
        raise relay.error
    if relay.stuck:
        _leave(path)


def _leave(path: Path) -> None:
    """From now on print into the file instead of where descriptor 2 leads, also what goes there by descriptor 1."""
    sys.stdout.flush()
    nowhere, log = os.fstat(2), os.open(path, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        if os.path.samestat(os.fstat(descriptor), nowhere):
            os.dup2(log, descriptor)
    os.close(log)


class Relay:
    """Passes on what is appended to a file from now on, in a thread of its own.

    So a reader that stands still holds up nobody else. The file holds what it has not taken yet.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.error: OSError | None = None
        """Why nothing can be passed on any more; None while it can."""
        self.stuck = False
        """Whether the reader took nothing for too long at the end."""
        self._path = path
        self._start = self._passed = path.stat().st_size
        self._descriptor = os.dup(descriptor)  # a thread that its reader holds may use it until the process ends
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="output", daemon=True)
        self._thread.start()

    def drain(self) -> bool:
        """Wait until the reader has all that was printed by now; returns whether it has.

        It has not if it has gone, or takes nothing for `PATIENCE_S`.
        """
        end, passed, since = self._path.stat().st_size, self._passed, time.monotonic()
        while (now := self._passed) < end and self.error is None:
            if now > passed:
                passed, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE_S:
                return False
            time.sleep(LOOK_S / 10)
        return now >= end

    def close(self) -> None:
        """Pass on the rest, and remove from the file what the reader has."""
        sys.stdout.flush()
        sys.stderr.flush()
        complete = self.drain()
        self.stuck = not complete and self.error is None
        self._ended.set()
        if complete:
            self._thread.join()
            os.truncate(self._path, self._start)
            if not self._start:
                self._path.unlink()

    def _work(self) -> None:
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._start)
            try:
                while not self._ended.wait(LOOK_S):
                    while (portion := file.read(PORTION)) and not self._ended.is_set():
                        self._pass_on(portion)
            except OSError as error:
                self.error = error
        os.close(self._descriptor)

    def _pass_on(self, portion: bytes) -> None:
        while portion and not self._ended.is_set():
            written = os.write(self._descriptor, portion)
            self._passed += written
            portion = portion[written:]


def last_line(path: Path, start: int) -> str:
    """The last line of a file after its byte `start`; empty if there is none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
