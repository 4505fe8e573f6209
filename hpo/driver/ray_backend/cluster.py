"""Ray itself: started or joined, and ended with all its processes."""

from __future__ import annotations

import atexit
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpo.errors import HpoError, InfrastructureError
from hpo.spec.study import Spec
from hpo.text import first_line

CONNECT_S = 8.0
SHUTDOWN_S = 20.0
MARK = "HPO_DRIVER"
"""Variable in the environment of every process of a driver's own Ray; its value is the token of the driver's lease."""


@contextmanager
def ray_session(spec: Spec, verbose: bool, token: str | None = None) -> Iterator[None]:
    """Ray: the cluster named by the specification or RAY_ADDRESS, else one on this machine for this study.

    `token` marks the processes of the latter for `end_processes`.
    """
    address = spec.ray.address or os.environ.get("RAY_ADDRESS")
    address = None if address == "local" else address
    token = token or secrets.token_hex(16)
    if not address:
        # Ray's ports are open to every account of this machine: only holders of this process's secret get in. (On a
        # cluster it is its owner's business.) Ray reads the mode when it is imported; later, versions from 2.59 on
        # still switch it on by themselves where it is not named.
        if "ray" not in sys.modules:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ[MARK] = token
    os.environ.update(
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",  # MLflow and the ledger hold what those files would
        TUNE_DISABLE_SIGINT_HANDLER="1",  # signals are ours: hpo.driver.signals
        TUNE_GLOBAL_CHECKPOINT_S=str(10**9),  # Ray's own state is never read back
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
        RAY_AIR_NEW_OUTPUT="0",
        RAY_CHDIR_TO_TRIAL_DIR="0",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    )
    if address:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # of half a minute each, by default 20
    import ray

    if ray.is_initialized():  # a program that started Ray itself keeps it
        yield
        return
    try:
        _knock(address)
        _start(
            address=address or "local",  # left out, Ray would join whatever cluster was started here last
            include_dashboard=None if address else False,  # what it shows, `hpo ui` and `hpo status` show
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            configure_logging=True,
        )
        if not verbose:  # that it could not save a state which is never read back is nobody's concern
            logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    except HpoError:  # a signal; the start cannot be called off, so its processes are ended under it
        if not address:
            end_processes(token, os.getpid())
        raise
    except Exception as error:  # Ray's own processes fail in any way, some as a bare Exception
        _end(address, token)
        raise InfrastructureError(_no_ray(address, error)) from error
    try:
        yield
    finally:
        _end(address, token)


def _start(**options: Any) -> None:
    """`ray.init` in a thread of its own, so that signals are handled meanwhile, and by our handlers: Ray would have
    SIGTERM raise an exception that gets lost in callbacks, and its native part would end the process.

    Ray's processes end with the thread that started them, so that thread stays.
    """
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    up = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            ray.init(**options)
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)
        up.set()
        threading.Event().wait()

    threading.Thread(target=work, name="ray", daemon=True).start()
    begun = False
    while not begun:
        begun = up.wait(0.05)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if failed:
        raise failed[0]


def _end(address: str | None, token: str) -> None:
    _shut_down()
    if not address:
        end_processes(token, os.getpid())  # what has outlived a Ray that died


def _knock(address: str | None) -> None:
    """Raises OSError where nobody listens at HOST:PORT, which Ray would wait for."""
    if found := re.fullmatch(r"(?:ray://)?(?P<host>.+):(?P<port>\d{1,5})", address or ""):
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=CONNECT_S).close()


def _no_ray(address: str | None, error: Exception) -> str:
    reason = first_line(error).rstrip(".") or type(error).__name__
    if address:
        return (
            f"Ray at {address} cannot be reached: {reason}. Leave ray.address and RAY_ADDRESS unset to start one here"
        )
    return f"Ray cannot be started on this machine: {reason}. `hpo doctor` looks closer"


def _shut_down() -> None:
    """End Ray, but do not wait for one that is gone: what it started here ends with this process anyway."""
    import ray

    thread = threading.Thread(target=ray.shutdown, daemon=True)
    thread.start()
    thread.join(SHUTDOWN_S)
    if thread.is_alive():
        atexit.unregister(ray.shutdown)


def end_processes(token: str, driver: int) -> None:
    """Kill what the own Ray of a driver with this token and process id consists of on this machine, where Ray itself
    can no longer be asked to.

    Ray's processes watch over each other, but when a whole chain of them dies some take a minute to notice.
    """
    mark = f"{MARK}={token}".encode()
    # Some of Ray's processes write their titles over their environment; all keep logs of the driver's session open.
    gone = driver == os.getpid() or not Path(f"/proc/{driver}").exists()
    session = re.compile(rf"/session_[^/]*_{driver}/") if gone else None
    for _ in range(2):  # one may have been born meanwhile
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            try:
                if pid != os.getpid() and (_has_mark(folder, mark) or (session and _has_open(folder, session))):
                    os.kill(pid, signal.SIGKILL)
            except OSError:  # it has ended meanwhile, or is another account's
                continue


def _has_mark(process: Path, mark: bytes) -> bool:
    return mark in (process / "environ").read_bytes().split(b"\0")


def _has_open(process: Path, name: re.Pattern[str]) -> bool:
    """Whether one of Ray's titled processes has a file of that name open."""
    if not (process / "cmdline").read_bytes().startswith(b"ray::"):
        return False
    for descriptor in (process / "fd").iterdir():
        try:
            if name.search(os.readlink(descriptor)):
                return True
        except FileNotFoundError:  # closed meanwhile
            continue
    return False
