"""The driver's end of the process that talks to MLflow: started, asked, ended.

It is a new interpreter, not a fork: this process has threads and Ray. It gets its messages over a pair of sockets that
no other process holds, so it notices at once when the driver dies, however that happens. Tokens and passwords reach
it in the environment and in messages, never in its arguments.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import IO, Any

from hpo.errors import InfrastructureError
from hpo.home import Home
from hpo.redact import as_reason
from hpo.spec.study import Spec
from hpo.tracking.process.messages import Check, Load
from hpo.tracking.runs import tracking_uri

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What the process ignores: its driver decides how a study ends."""
END_S = 2.0
"""Longest wait for the process to end, in seconds."""


class Child:
    """The process that talks to MLflow. It starts with the first message, and again with the first after its death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._errors: IO[bytes] | None = None
        """What it wrote to its standard error stream: nothing, unless Python itself failed."""
        self.closed = False
        self._only_loads = True
        """Whether it was asked nothing yet."""

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -------------------------------------------------------------------------------------- messages

    def load(self, spec: Spec, home: Home) -> None:
        """Let it import MLflow while this process does something else, because it will be asked. Nothing can go wrong
        here that `ask` does not find, too."""
        if spec.tracking.enabled:
            with suppress(OSError):
                self.send(Load(tracking_uri(home, spec)))

    def ask(self, spec: Spec, home: Home) -> None:
        """Let it check, as `check_tracking` does, that MLflow can take the study; `answer` tells what it found.

        Raises:
            InfrastructureError: the process cannot be started.
        """
        try:
            self.send(Check(spec, home))
        except OSError as error:
            raise self._silent(error) from error

    def answer(self) -> None:
        """Wait for the answer to `ask`.

        Raises:
            UsageError, InfrastructureError: as `check_tracking`; InfrastructureError also if the process has died.
        """
        try:
            checked = self.receive()
        except (EOFError, OSError) as error:
            raise self._silent(error) from error
        if checked.error is not None:
            raise checked.error

    def _silent(self, error: Exception) -> InfrastructureError:
        return InfrastructureError(
            f"MLflow cannot be asked: {self.bury(error)}; free some memory, or set tracking.enabled=false to run "
            "without MLflow"
        )

    def send(self, message: object) -> None:
        """Send a message; starts the process if none is there.

        Raises:
            OSError: the process has died, or `close` was called.
        """
        if self.closed:
            raise BrokenPipeError("closed")
        (self._connection or self._start()).send(message)
        self._only_loads = self._only_loads and isinstance(message, Load)

    def receive(self) -> Any:
        """Wait for its next message.

        Raises:
            EOFError, OSError: the process has died.
        """
        assert self._connection is not None  # something was sent before
        return self._connection.recv()

    @property
    def has_answered(self) -> bool:
        """Whether `receive` returns or raises at once."""
        return self._connection is not None and self._connection.poll()

    # ------------------------------------------------------------------------------------------ life

    def _start(self) -> Connection[Any, Any]:
        ours, theirs = Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        # A signal to all processes must not end it before it ignores them. The mask is inherited.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "hpo.tracking.process", str(theirs.fileno())],
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # the terminal is the live view's
                    stderr=self._errors,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._connection = ours
        return ours

    def kill(self) -> None:
        """End it at once. Who waits for a message of it gets EOFError."""
        if self._process is not None:
            self._process.kill()

    def bury(self, error: Exception) -> str:
        """What has become of the process, after `error`. The next message starts another one."""
        if self._connection is None or self._process is None or self._errors is None:
            return f"its process cannot be started: {error}"
        self._disconnect()
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._errors as file:
            file.seek(0)
            words = file.read().decode(errors="replace").strip().rpartition("\n")[2]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the process that talks to MLflow {how}" + (f" ({as_reason(words)})" if words else "")

    def close(self) -> None:
        """Let it end, and start no other one. One that is still asking for `answer` ends after that. Only the first
        call waits."""
        if self.closed:
            return
        self.closed = True
        if self._only_loads:
            self.kill()  # an import would go on for seconds
        self._disconnect()
        if self._process is not None:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                return
        if self._errors is not None:
            self._errors.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
