"""What other accounts of this machine and other machines can reach of a running study: nothing without its secret."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from hpo.home import Home
from tests.conftest import synthetic_spec
from tests.support.drivers import Driver, marked_processes

pytestmark = pytest.mark.ray


def listening(pids: Iterable[int]) -> set[tuple[str, int]]:
    """(IPv4 or IPv6 address in /proc's hexadecimal form, port) that these processes accept connections at."""
    inodes = set()
    for pid in pids:
        with suppress(FileNotFoundError):  # the process has ended meanwhile
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # closed meanwhile
                    inodes.add(os.readlink(descriptor).removeprefix("socket:[").rstrip("]"))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def environment(pid: int) -> dict[str, str]:
    """Variables that a process was started with."""
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


ASK = """
import sys
from ray._raylet import GcsClient
print("nodes:", len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=30)))
"""


def ask_head(address: str, token: str | None) -> str:
    """What Ray's head tells a program with this token that wants to know its nodes."""
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    variables = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | secret
    asked = subprocess.run(
        [sys.executable, "-c", ASK, address], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    return asked.stdout + asked.stderr


def test_ray_and_mlflow_let_nobody_in(home: Home, tmp_path: Path) -> None:
    """Ray's head asks for the token, there is no dashboard to look at, and what answers HTTP asks for the token too;
    MLflow is on the loopback device alone; and what is written is its owner's."""
    path = tmp_path / "spec.yaml"
    path.write_text(synthetic_spec("closed", extra={"seconds": 0.5, "light": True}, concurrency=1).to_yaml())
    driver = Driver.start("run", path, home=home.path)
    driver.until("epoch 1/8")
    processes = marked_processes(driver.mark)
    raylet = next(pid for pid, command in processes.items() if re.match(r"\S*/raylet\b", command))
    address = re.search(r"--gcs-address=(\S+)", processes[raylet])
    assert address is not None
    secret = environment(raylet)["RAY_AUTH_TOKEN"]
    assert len(secret) >= 32
    for wrong in (None, "0" * 64):
        refused = ask_head(address[1], wrong)
        assert "Unauthenticated" in refused, refused
        assert "nodes:" not in refused
    assert "nodes: 1" in ask_head(address[1], secret)
    assert not [command for command in processes.values() if "dashboard/dashboard.py" in command]
    for place, port in listening(processes):
        if place not in LOOPBACK:
            assert http_status(port) in (None, 401, 403), f"{place}:{port} answers anybody"
    driver.signal(signal.SIGTERM)
    assert driver.wait() == 143
    assert secret not in driver.text
    assert home.path.stat().st_mode & 0o777 == 0o700

    ui = Driver.start("ui", "--port", "0", home=home.path)
    ui.until("Stop the server with Ctrl-C")
    places = listening(marked_processes(ui.mark))
    assert places
    assert {place for place, _ in places} <= LOOPBACK
    ui.signal(signal.SIGINT)
    assert ui.wait() == 0, ui.text
    assert "Traceback" not in ui.text
    assert ui.orphans() == []


def http_status(port: int) -> int | None:
    """What a program with an HTTP interface on this port answers to a request for Ray's jobs; None if it has none."""
    try:
        with urllib.request.urlopen(
            f"http://{socket.gethostbyname(socket.gethostname())}:{port}/api/jobs/", timeout=5
        ) as it:
            return int(it.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return None
