"""The caller's end of the process that drives a study: started, watched, interrupted.

It is a process of its own because a driver handles signals, starts Ray, and may have to end at once where Ray hangs.
None of this may happen to a notebook. It has a session of its own too, so that Ctrl-C in a terminal and the interrupt
button of a notebook reach only the caller, which passes them on.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from hpo.api.messages import Begun, Confirm, Done, Failed, Line, Request
from hpo.api.progress import Progress
from hpo.errors import HpoError, InfrastructureError, Interrupted, NoTrialSucceeded, UsageError
from hpo.redact import redact

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Blocked until the process handles them. The mask is inherited."""
TICK_S = 0.5
"""How often a view may paint without a new line, in seconds."""
END_S = 20.0
"""How long the process may take to end after its last message, in seconds."""
WORDS = 4000
"""Bytes of its last words that an error has."""
ERRORS = {error.exit_code: error for error in (UsageError, NoTrialSucceeded, InfrastructureError)}
"""By the exit code of a driver that could send no error any more."""


def drive(request: Request, progress: Progress) -> str:
    """Have a study driven to its end; returns its name.

    The first KeyboardInterrupt stops the study in order, a second one ends its process at once; then it is raised.

    Raises:
        HpoError: as the driver.
        KeyboardInterrupt: the caller was interrupted.
    """
    interrupted = False
    with Driver(request) as driver:
        while not driver.over:
            try:
                progress.show(driver.next_line())
            except KeyboardInterrupt:
                interrupted = True
                driver.interrupt()
                progress.show(Line("interrupted: the study stops in order; a second interrupt ends it at once"))
        progress.close()
    last = driver.last
    if interrupted and (isinstance(last, Done) or isinstance(last.error, Interrupted)):
        raise KeyboardInterrupt(driver.advice)
    if isinstance(last, Done):
        return last.name
    raise _with_note(last.error)


def _with_note(error: HpoError) -> HpoError:
    """The error; its advice is shown below it where Python can."""
    if error.advice and hasattr(error, "add_note"):
        error.add_note(error.advice)
    return error


class Driver:
    """A process that drives one study, until the block ends. A study that still runs then stops in order."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._recorded: str | None = None
        self._last: Done | Failed | None = None
        self._lines: queue.SimpleQueue[Line] = queue.SimpleQueue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open until the block ends
        """What it wrote to its streams: the output of libraries, and last words."""
        self._reader = threading.Thread(target=self._read, name="driver of a study", daemon=True)

    def __enter__(self) -> Driver:
        self._connection, theirs = Pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with theirs:
                self._process = self._start(theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._connection.send(self._request)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not `close` alone: the reader still waits there, and so the other end would not notice.
        with socket.fromfd(self._connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as ours:
            ours.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()
        if error is None:
            self._last = self._last or Failed(self._death())
            self._wait()
        self._errors.close()

    def _start(self, theirs: Connection[Any, Any]) -> subprocess.Popen[bytes]:
        output = None if self._request.verbose else self._errors
        return subprocess.Popen(
            [sys.executable, "-m", "hpo.api", str(theirs.fileno())],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    @property
    def over(self) -> bool:
        """Whether it has sent its last message, or died, and `next_line` has given all its lines."""
        return not self._reader.is_alive() and self._lines.empty()

    @property
    def last(self) -> Done | Failed:
        """How the study ended, once the block has ended."""
        assert self._last is not None
        return self._last

    @property
    def advice(self) -> str:
        """How to continue after an interruption."""
        if self._recorded is None:
            return "interrupted before anything was recorded; run the same again"
        home = self._request.home
        where = "" if home.usual else f", home={str(home.path)!r}"
        call = "confirm" if isinstance(self._request, Confirm) else "resume"
        return f"{self._recorded} stopped in order; continue with hpo.{call}({self._recorded!r}{where})"

    def next_line(self) -> Line | None:
        """Wait for a line to show; None if there is none for a while."""
        try:
            return self._lines.get(timeout=TICK_S)
        except queue.Empty:
            return None

    def interrupt(self) -> None:
        """As Ctrl-C in a terminal: the first ends the study in order, the second at once."""
        self._process.send_signal(signal.SIGINT)

    def _read(self) -> None:
        """Take its messages until the last one."""
        try:
            while self._last is None:
                message = self._connection.recv()
                if isinstance(message, Line):
                    self._lines.put(message)
                elif isinstance(message, Begun):
                    self._recorded = message.name
                else:
                    self._last = message
        except (EOFError, OSError):  # it has died, or this end was closed
            return

    def _wait(self) -> int:
        """Wait for its end; returns the exit code. What is in the ledger by then does not depend on it."""
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _death(self) -> HpoError:
        """What its end without a last message means: it left at once, or was killed."""
        code = self._wait()
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - WORDS))
        words = redact(self._errors.read().decode(errors="replace").strip())
        if code > 128:
            return Interrupted(code - 128)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        kind = ERRORS.get(code, InfrastructureError)
        return kind(f"the process that drove the study {how}" + (f":\n{words}" if words else ""))
