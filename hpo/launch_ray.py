"""Ray itself: started or joined, measured, watched, ended."""

from __future__ import annotations

import atexit
import logging
import math
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from hpo.conductor import Conductor
from hpo.errors import HpoError, InfrastructureError, UsageError
from hpo.home import Home
from hpo.specification import Spec

CONNECT_S = 8.0
SHUTDOWN_S = 20.0
STOPPING_S = 40.0
"""How long Ray may take to end the trials once the study stops; Tune itself ends stubborn ones after 15 s."""
SILENCE_S = 15.0
"""How long a cluster's head may refuse connections before it is taken for dead. Left alone, Ray ends this process
after 60 s, without a word to the ledger."""


@dataclass(frozen=True)
class Slots:
    """What one trial gets and how many run at once."""

    cpus: float
    gpus: float
    device: str
    concurrency: int


MARK = "HPO_DRIVER"
"""Variable in the environment of every process of a driver's own Ray; its value is the token of the driver's lease."""


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
        TUNE_DISABLE_SIGINT_HANDLER="1",  # signals are ours: hpo.signals
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
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
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


def plan_slots(spec: Spec) -> Slots:
    """What a trial gets and how many fit, from the nodes Ray sees.

    Raises:
        UsageError: no single node has what one trial asks for.
    """
    import ray

    return _slots_on([node["Resources"] for node in ray.nodes() if node["Alive"]], spec)  # type: ignore[no-untyped-call]


def survey(spec: Spec, home: Home) -> Slots:
    """As `plan_slots`, but without starting a Ray where none would be joined.

    Raises:
        UsageError: as `plan_slots`.
        InfrastructureError: the cluster cannot be reached.
    """
    if (spec.ray.address or os.environ.get("RAY_ADDRESS") or "local") != "local":
        with ray_session(spec, verbose=False):
            return plan_slots(spec)
    from trainers.catalogue import gpu_count

    return _slots_on([{"CPU": float(os.cpu_count() or 1), "GPU": float(gpu_count())}], spec)


def _slots_on(nodes: list[dict[str, float]], spec: Spec) -> Slots:
    most_gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    device = spec.resources.device
    if device == "auto":
        device = "cuda" if most_gpus and spec.resources.gpus != 0 else "cpu"
    asked = spec.resources.gpus
    gpus = (1.0 if device == "cuda" else 0.0) if asked == "auto" else float(asked)
    cpus = spec.resources.cpus
    fits = [_fit(node, cpus, gpus) for node in nodes]
    if not sum(fits):
        most_cpus = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        raise UsageError(
            f"resources: a trial asks for {cpus:g} CPUs and {gpus:g} GPUs, but no node has them "
            f"(at most {most_cpus:g} CPUs and {most_gpus:g} GPUs on one); lower resources.cpus or resources.gpus"
        )
    wanted = spec.concurrency if spec.concurrency != "auto" else sum(fits)
    return Slots(cpus, gpus, device, min(int(wanted), sum(fits)))


def _fit(node: dict[str, float], cpus: float, gpus: float) -> int:
    by_cpu = math.floor(node.get("CPU", 0.0) / cpus + 1e-9)
    if not gpus:
        return by_cpu
    available = node.get("GPU", 0.0)
    # A fraction must fit whole GPUs: 0.4 goes twice on each, not five times on two.
    by_gpu = math.floor(available / gpus) if gpus >= 1 else int(available) * math.floor(1 / gpus + 1e-9)
    return min(by_cpu, by_gpu)


class Watchdog:
    """While active, a thread that calls `leave` when the main thread cannot be expected to end the study.

    That is so when Ray's own processes have died (its client then blocks, and ends the process by itself), and when
    Ray does not come to an end after the conductor stopped. `leave` must not return.
    """

    def __init__(self, conductor: Conductor, leave: Callable[[], None]) -> None:
        self._conductor = conductor
        self._leave = leave
        self._done = threading.Event()
        self._busy = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> None:
        import ray

        address = str(ray.get_runtime_context().gcs_address)
        self._children = _ray_children()
        self._address = (address.rpartition(":")[0].strip("[]"), int(address.rpartition(":")[2]))
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()  # for ever where it is leaving

    def _watch(self) -> None:
        heard, stopping = time.monotonic(), None
        while not self._done.wait(1.0):
            now = time.monotonic()
            if self._conductor.stopping is not None:
                stopping = stopping or now
            if dead := [name for pid, name in self._children.items() if not _alive(pid)]:
                return self._give_up(f"Ray died: {' and '.join(dead)} ended")
            if self._answers():
                heard = now
            if now - heard > SILENCE_S:
                return self._give_up(f"Ray died: its head at {':'.join(map(str, self._address))} does not answer")
            if stopping is not None and now - stopping > STOPPING_S:
                return self._give_up(f"Ray did not end the trials within {STOPPING_S:.0f} s")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(self._address, timeout=5):
                return True
        except OSError:
            return False

    def _give_up(self, reason: str) -> None:
        self._conductor.fail(InfrastructureError(reason))
        self._leave()


def _ray_children() -> dict[int, str]:
    """Ray's vital processes that this process started, by id; none on somebody else's cluster."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        if name in ("raylet", "gcs_server") and int(rest.split()[1]) == os.getpid():
            found[int(stat.parent.name)] = name
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
