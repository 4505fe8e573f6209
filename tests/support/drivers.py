"""Real `hpo` commands as processes of their own, to be killed.

They are forked from one process that has the heavy imports behind it, which saves each the greater part of its
start-up; everything else is the command as a person types it: its arguments, environment, files and exit code.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "HPO_TEST_MARK"
"""Variable in the environment of a driver and of everything that it starts."""


@dataclass
class Driver:
    """A running command."""

    process: ForkServerProcess
    output: Path
    """Where its stdout and stderr go."""
    mark: str
    started: float = field(default_factory=time.time)

    @classmethod
    def start(
        cls, *arguments: object, home: Path, cwd: Path = REPOSITORY, prepare: str = "", **environment: str
    ) -> Driver:
        """Run `hpo ARGUMENTS` in a session of its own.

        Args:
            prepare: `module:function` that its process calls first.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.support.driver_preload"])
        mark = uuid.uuid4().hex
        output = home.parent / f"{mark}.log"
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        variables = {"HPO_HOME": str(home), MARK: mark, "PYTHONPATH": path, **environment}
        words = [str(one) for one in arguments]
        process = context.Process(target=_command, args=(words, variables, output, cwd, prepare))
        process.start()
        return cls(process, output, mark)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.output.read_text() if self.output.exists() else ""

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to it, or to its whole process group as a terminal does."""
        (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, to it alone."""
        self.signal(signal.SIGKILL)
        self.process.join()

    def wait(self, seconds: float = 240) -> int:
        """Its exit code; negative for a signal."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.kill()
            raise TimeoutError(f"still running after {seconds} s:\n{self.text[-3000:]}")
        assert self.process.exitcode is not None
        return self.process.exitcode

    def until(self, text: str, seconds: float = 240, count: int = 1) -> None:
        """Wait until its output has `text` so often."""
        deadline = time.monotonic() + seconds
        while self.text.count(text) < count:
            if time.monotonic() > deadline or not self.process.is_alive():
                raise TimeoutError(f"no {text!r} (alive: {self.process.is_alive()}):\n{self.text[-3000:]}")
            time.sleep(0.05)

    def orphans(self, seconds: float = 30) -> list[str]:
        """What it started and has left behind, after giving that time to end."""
        deadline = time.monotonic() + seconds
        while (left := marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [command[:200].strip() for command in left]


def marked(mark: str) -> list[str]:
    """Command lines of the live processes with that mark in their environment."""
    return list(marked_processes(mark).values())


def marked_processes(mark: str) -> dict[int, str]:
    """The same by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(folder.name)] = command
        except OSError:  # it has ended meanwhile
            continue
    return found


def _command(arguments: Sequence[str], variables: dict[str, str], output: Path, cwd: Path, prepare: str) -> None:
    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.environ.update(variables)
    sys.path[:0] = [folder for folder in variables["PYTHONPATH"].split(os.pathsep) if folder not in sys.path]
    os.chdir(cwd)
    sys.argv = ["hpo", *arguments]
    if prepare:
        module, function = prepare.split(":")
        getattr(importlib.import_module(module), function)()
    from hpo.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()


@contextmanager
def cluster(cpus: int = 2, *, gpus: int = 0, **environment: str) -> Iterator[dict[str, str]]:
    """A Ray that lives as long as the block; yields the environment that leads drivers to it.

    Args:
        gpus: so many are declared, and need not be there.
        environment: of its first node.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    head = ["--head", f"--port={port}", "--include-dashboard=false", "--no-monitor"]
    with _raylet(head, cpus, secret | environment, gpus):
        yield {**secret, "RAY_ADDRESS": f"127.0.0.1:{port}"}


@contextmanager
def node(ray: dict[str, str], *, gpus: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Another node of that cluster, of one CPU, on this machine; yields its process, which leads a group."""
    with _raylet([f"--address={ray['RAY_ADDRESS']}"], 1, ray, gpus) as process:
        yield process


@contextmanager
def _raylet(
    options: Sequence[str], cpus: int, environment: dict[str, str], gpus: int
) -> Iterator[subprocess.Popen[bytes]]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    # A folder of its own, so that nobody else's `ray.init()` finds it; short, because sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}", *options]
        command += ["--include-log-monitor=false"]
        command += [f"--num-gpus={gpus}"] if gpus else []
        output = Path(folder) / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*command, *([f"--temp-dir={folder}"] if "--head" in options else [])],
                stdout=file,
                stderr=file,
                env=os.environ | environment | {"PYTHONPATH": path},
                start_new_session=True,
            )
        try:
            while "Ray runtime started" not in output.read_text():
                if process.poll() is not None:
                    raise RuntimeError(output.read_text())
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.wait(60)
