"""A PostgreSQL server of the benchmark's own, and a proxy before it that adds a delay and counts round trips."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy


def programs() -> Path | None:
    """The folder of the newest installed PostgreSQL (Debian's layout); None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found else None


@contextmanager
def postgresql() -> Iterator[str]:
    """A running server with the default settings; yields the URL of an empty database, for SQLAlchemy."""
    password, port = secrets.token_hex(8), free_port()
    place = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # the path of a socket is at most 107 characters long
    (place / "password").write_text(password)
    if os.geteuid() == 0:
        shutil.chown(place, "postgres")
        shutil.chown(place / "password", "postgres")
    _run("initdb", "-D", place / "data", "-U", "hpo", f"--pwfile={place / 'password'}", "-A", "scram-sha-256")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place}"
    _run("pg_ctl", "-D", place / "data", "-o", options, "-l", place / "log", "-w", "start")
    try:
        yield f"postgresql+psycopg://hpo:{password}@127.0.0.1:{port}/postgres"
    finally:
        _run("pg_ctl", "-D", place / "data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(place, ignore_errors=True)


def _run(program: str, *arguments: object) -> None:
    folder = programs()
    assert folder is not None, "PostgreSQL is not installed"
    command = [str(folder / program), *map(str, arguments)]
    if os.geteuid() == 0:  # it refuses to run as root
        group = pwd.getpwnam("postgres").pw_gid
        command = ["setpriv", "--reuid=postgres", f"--regid={group}", "--clear-groups", *command]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


def new_database(server: str, name: str) -> str:
    """Create a database on the server; returns its URL."""
    url = sqlalchemy.make_url(server)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass(frozen=True)
class Proxy:
    """A way to a server that takes longer. It runs in a process of its own."""

    url: str
    _delay: Any
    _trips: Any

    @property
    def round_trips(self) -> int:
        """How often a client has waited for an answer so far."""
        return int(self._trips.value)

    def set_delay(self, seconds: float) -> None:
        """Add so much to every round trip from now on."""
        self._delay.value = seconds


@contextmanager
def proxy(server: str) -> Iterator[Proxy]:
    """A proxy to a server's URL, at first without a delay."""
    url, port = sqlalchemy.make_url(server), free_port()
    assert url.port is not None
    context = multiprocessing.get_context("spawn")
    delay, trips, ready = context.Value("d", 0.0), context.Value("l", 0), context.Event()
    process = context.Process(target=_serve, args=(port, url.port, delay, trips, ready), daemon=True)
    process.start()
    assert ready.wait(300), "the proxy did not start"
    try:
        yield Proxy(url.set(port=port).render_as_string(hide_password=False), delay, trips)
    finally:
        process.terminate()
        process.join()


def _serve(port: int, target: int, delay: Any, trips: Any, ready: Any) -> None:
    asyncio.run(_proxy(port, target, delay, trips, ready))


async def _proxy(port: int, target: int, delay: Any, trips: Any, ready: Any) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
        asking = False

        async def ask() -> None:
            nonlocal asking
            while data := await reader.read(1 << 16):
                if not asking:  # a question may come in several pieces
                    asking = True
                    trips.value += 1
                    await asyncio.sleep(delay.value)
                there_writer.write(data)
            there_writer.close()

        async def answer() -> None:
            nonlocal asking
            while data := await there_reader.read(1 << 16):
                asking = False
                writer.write(data)
            writer.close()

        await asyncio.gather(ask(), answer(), return_exceptions=True)

    server = await asyncio.start_server(connect, "127.0.0.1", port)
    ready.set()
    async with server:
        await server.serve_forever()
