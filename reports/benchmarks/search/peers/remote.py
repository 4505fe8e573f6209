"""The benchmark's side of a search in another environment: a process that may die or hang without stopping others."""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from reports.benchmarks.search.peers.protocol import Answer, PeerError, Problem, Start

ROOT = Path(__file__).parents[4]
"""The folder that holds `reports`: all that a child process has of this project."""
ANSWER_SECONDS = 600.0
"""How long an answer may take on the clock."""


class Remote:
    """A `Peer` in a child process. It is a context manager, at whose end the process has ended.

    Args:
        python: the interpreter of the tool's environment.
        factory: "MODULE:FUNCTION", see `child`.
        package: the distribution whose version is in `version`.
        seconds: how long an answer may take.

    Raises:
        PeerError: The process cannot be started, has died, has failed or does not answer in time. The text says why.
    """

    def __init__(
        self, python: Path, factory: str, package: str, problem: Problem, seconds: float = ANSWER_SECONDS
    ) -> None:
        self._seconds = seconds
        self._folder = tempfile.TemporaryDirectory(prefix="peer-")
        self._errors = Path(self._folder.name, "stderr")
        try:
            self._process = self._start(python, factory, package)
        except OSError as error:
            self._folder.cleanup()
            raise PeerError(f"{python} cannot be started: {error.strerror}") from error
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._rest = b""
        try:
            self.version: str = self._call(dataclasses.asdict(problem))["version"]
        except BaseException:
            self.close()
            raise

    def ask(self, spent: float) -> Start | None:
        start = self._call({"ask": spent})["start"]
        return None if start is None else Start(**start)

    def tell(self, trial: int, epoch: int, value: float) -> Answer:
        answer: Answer = self._call({"tell": [trial, epoch, value]})["answer"]
        return answer

    def close(self) -> None:
        """End the process, which has nothing that must be kept."""
        self._process.kill()
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                _close(pipe)
        self._folder.cleanup()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, python: Path, factory: str, package: str) -> subprocess.Popen[bytes]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with self._errors.open("wb") as errors:
            return subprocess.Popen(
                [python, "-m", "reports.benchmarks.search.peers.child", factory, package],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self._folder.name,
                env={**os.environ, **threads, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
            )

    def _call(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: the reason is read below
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        line = self._line()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise PeerError(f"its process answered with {line[:80]!r}, which is not JSON") from error
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _line(self) -> bytes:
        """The next line of its output, waited for no longer than allowed, even if it comes in parts."""
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            if not self._selector.select(self._seconds):
                raise PeerError(f"its process gave no answer in {self._seconds:g} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise PeerError(self._death())
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _death(self) -> str:
        code = self._process.wait()
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"its process ended with {how}" + (f": {lines[-1]}" if lines else "")


def _close(pipe: Any) -> None:
    with suppress(BrokenPipeError):  # unread input of a process that is gone
        pipe.close()
