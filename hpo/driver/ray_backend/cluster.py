"""Start or join Ray, and end it with all its processes."""

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from hpo.driver.ray_backend.shipping import runtime_env
from hpo.errors import HpoError, InfrastructureError
from hpo.processes import usable_cpus
from hpo.redact import redact
from hpo.spec.study import LOCAL, Spec
from hpo.text import first_line

CONNECT_S = 8.0
SHUTDOWN_S = 20.0
PRESTARTS = ("RAY_enable_worker_prestart", "RAY_prestart_worker_first_driver")
"""Unless these variables are 0, Ray starts one process per CPU of the machine before anybody asks for one. Each takes
half a second of processor time and 90 MB, and a study uses few of them."""
NICENESS = "RAY_worker_niceness"
"""Ray's default of 15 gives a worker 3 % of a core that any other program wants too, and a GPU waits for its host
meanwhile. With 0 they share it evenly. A person who works on the machine may set the variable."""
SPARE = ("start_monitor", "start_api_server")
"""Ray's own starts of its autoscaler and its dashboard's process. That one sends usage statistics where no dashboard is
wanted. A study's own Ray has no use for either, and each takes more than a second of processor time."""
FOR_OUTPUT = "start_log_monitor"
"""Ray's own start of the program that sends what workers print to a driver that shows it."""
MARK = "HPO_DRIVER"
"""Variable in the environment of every process of a driver's own Ray; its value is the token of the driver's lease."""


@contextmanager
def ray_session(spec: Spec, verbose: bool, token: str | None = None, beside: str | None = None) -> Iterator[None]:
    """Use the cluster that the specification or RAY_ADDRESS names, or else a Ray of this study's own on this machine.

    Args:
        token: marks the processes of the study's own Ray for `end_processes`.
        beside: the folder of the specification, where an own trainer may lie.

    Raises:
        InfrastructureError: Ray cannot be reached or started.
    """
    address = spec.ray.cluster()
    token = token or secrets.token_hex(16)
    if not address:
        # Ray's ports are open to every account of this machine, so only processes with this process's secret get in. (A
        # cluster's owner decides that for the cluster.) Ray reads the mode when it is imported. If it is imported
        # already, Ray 2.59 and later still switch the mode on by themselves unless it is set.
        if "ray" not in sys.modules:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ[MARK] = token
        for setting in (*PRESTARTS, NICENESS):
            os.environ.setdefault(setting, "0")
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
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # half a minute each; the default is 20
    import ray

    if ray.is_initialized():  # by the program itself, which also ends it
        yield
        return
    try:
        _knock(address)
        with _without(() if address else SPARE if verbose else (*SPARE, FOR_OUTPUT)):
            _start(
                num_cpus=None if address else _cpus(),
                address=address or LOCAL,  # without it Ray joins the cluster that was started here last
                runtime_env=runtime_env(spec.trainer, beside, cluster=bool(address)),
                include_dashboard=None if address else False,  # `hpo ui` and `hpo status` show the same
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                configure_logging=True,
            )
        if not verbose:
            be_quiet()
    except HpoError:  # a signal; the start cannot be cancelled, so its processes are killed
        if not address:
            end_processes(token, os.getpid())
        raise
    except Exception as error:  # Ray raises many types, even a bare Exception
        _end(address, token)
        raise InfrastructureError(_no_ray(address, error)) from error
    try:
        yield
    finally:
        _end(address, token)


def how_ray_starts(spec: Spec) -> str:
    """What `ray_session` will do, in words."""
    address = spec.ray.cluster()
    return f"joining the Ray cluster at {redact(address)}" if address else "starting Ray on this machine"


def be_quiet() -> None:
    """Drop what Ray Tune logs. The conductor tells of each lost worker in its own words, without a traceback, and the
    state that Tune warns it could not save is never read back."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def _cpus() -> int | None:
    """CPUs of the study's own Ray; None: as Ray counts. It knows limits of containers, but would take all CPUs of a
    machine of which SLURM has given a job some."""
    usable = usable_cpus()
    return usable if usable < (os.cpu_count() or 1) else None


@contextmanager
def _without(starts: Sequence[str]) -> Iterator[None]:
    """Let Ray leave out programs while it starts, by the names of its methods that start them.

    `ray start` has options for that, `ray.init` has none. A Ray without such a method starts what it has.
    """
    from ray._private.node import Node

    before = {name: getattr(Node, name) for name in starts if hasattr(Node, name)}
    try:
        for name in before:
            setattr(Node, name, lambda *_, **__: None)
        yield
    finally:  # the program may start a Ray of its own later
        for name, method in before.items():
            setattr(Node, name, method)


def _start(**options: Any) -> None:
    """Call `ray.init` in a thread of its own, so that signals are handled meanwhile, and by our handlers.

    Ray's Python part would turn SIGTERM into an exception that gets lost in callbacks, and its native part would end
    the process. The thread stays, because Ray's processes end with the thread that started them.
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
        end_processes(token, os.getpid())  # those that outlived a Ray that died


def _knock(address: str | None) -> None:
    """Raises OSError if nothing listens at HOST:PORT; Ray would wait for it."""
    if match := re.fullmatch(r"(?:ray://)?(?P<host>.+):(?P<port>\d{1,5})", address or ""):
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), timeout=CONNECT_S).close()


def _no_ray(address: str | None, error: Exception) -> str:
    reason = first_line(error).rstrip(".") or type(error).__name__
    if address:
        return f"Ray at {address} cannot be reached: {reason}. Unset ray.address and RAY_ADDRESS to start Ray here"
    return f"Ray cannot be started on this machine: {reason}. Type `hpo doctor` to find out more"


def _shut_down() -> None:
    """End Ray, but do not wait long for a dead one: what it started here ends with this process anyway."""
    import ray

    thread = threading.Thread(target=ray.shutdown, daemon=True)
    thread.start()
    thread.join(SHUTDOWN_S)
    if thread.is_alive():
        atexit.unregister(ray.shutdown)


def end_processes(token: str, driver: int) -> None:
    """Kill the processes on this machine that a driver started as its own Ray, where Ray itself cannot end them.

    Ray's processes watch each other, but when a whole chain of them dies some take a minute to notice.

    Args:
        token: of the driver's lease.
        driver: the driver's process id.
    """
    # Some of Ray's processes write their titles over their environment; all keep logs of the driver's session open.
    gone = driver == os.getpid() or not psutil.pid_exists(driver)
    session = re.compile(rf"/session_[^/]*_{driver}/") if gone else None
    for _ in range(2):  # another one may have started meanwhile
        for process in psutil.process_iter(["environ", "cmdline"]):
            try:
                marked = (process.info["environ"] or {}).get(MARK) == token
                if process.pid != os.getpid() and (marked or (session and _has_open(process, session))):
                    process.kill()
            except psutil.Error:  # it has ended meanwhile, or belongs to another account
                continue


def _has_open(process: psutil.Process, path: re.Pattern[str]) -> bool:
    """Whether it is one of Ray's titled processes, and has a file of such a path open."""
    title = next(iter(process.info["cmdline"] or ()), "")
    return title.startswith("ray::") and any(path.search(file.path) for file in process.open_files())
