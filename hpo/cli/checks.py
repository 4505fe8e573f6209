"""The checks of `hpo doctor` on this machine and a home folder."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hpo.home import Home
from hpo.spec.study import Ray
from trainers.api import DataConfig, DataError, ModelConfig, WeightsError

LOW_DISK_BYTES = 5e9
"""Less free space is a warning."""
RAY_START_S = 180.0
"""Longest time to wait for Ray."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    state: Literal["ok", "differs", "warning", "failed"]
    subject: str
    text: str


def python() -> Finding:
    """The version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    return Finding("ok" if supported else "warning", "Python", f"{version} (3.10 to 3.13 are tested)")


def package(name: str) -> Callable[[], Finding]:
    """A check that imports the package `name`."""

    def check() -> Finding:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken build can raise any error
            remedy = f"install it again: pip install --force-reinstall {name.partition('.')[0]}"
            return Finding("failed", name, f"cannot be imported: {error}; {remedy}")
        root = sys.modules[name.partition(".")[0]]
        return Finding("ok", name, str(getattr(module, "__version__", getattr(root, "__version__", ""))))

    return check


def cuda() -> Finding:
    """The CUDA devices."""
    from trainers.devices import cuda_devices

    devices = cuda_devices()
    if devices:
        return Finding("ok", "CUDA", "; ".join(devices))
    return Finding("warning", "CUDA", "no device: studies run on the CPU, which is fast enough only for small studies")


def ray() -> Finding:
    """Start Ray on this machine, or join the cluster in RAY_ADDRESS."""
    place = Ray().cluster() or "this machine"
    try:
        command = [sys.executable, "-m", "hpo.driver.ray_backend.probe"]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=RAY_START_S, check=True)
    except subprocess.TimeoutExpired:
        advice = "read /tmp/ray/session_latest/logs, and allow connections between processes in the firewall"
        return Finding("failed", "Ray", f"{place} did not answer within {RAY_START_S:.0f} s; {advice}")
    except subprocess.CalledProcessError as error:
        reason = str(error.stderr).strip().splitlines()[-1]
        return Finding("failed", "Ray", f"{place}: {reason}")
    return Finding("ok", "Ray", f"{place}: {probe.stdout.strip()}")


def data_set(name: Literal["cifar10", "cifar100"]) -> Finding:
    """The files of a data set in its default folder."""
    from trainers.data.cifar import verify

    config = DataConfig(name=name)
    try:
        verify(config)
    except DataError as error:
        return Finding("warning", "data set", str(error))
    return Finding("ok", "data set", f"{name} is complete in {config.root}")


def weights() -> Finding:
    """The pretrained weights of the default model. Other models use the same source."""
    from trainers.network.weights import check

    model = ModelConfig()
    try:
        check(model)
    except WeightsError as error:
        return Finding("warning", "weights", str(error))
    return Finding("ok", "weights", f"{model.name} is cached or can be downloaded")


def home_folder(home: Home) -> Finding:
    """The home folder exists and is writable, or will be created."""
    if not home.path.exists():
        return Finding("ok", "home", f"{home.path} (the first study creates it)")
    if os.access(home.path, os.W_OK | os.X_OK):
        return Finding("ok", "home", str(home.path))
    return Finding("failed", "home", f"{home.path} is not writable; choose another home folder with --home")


def half_renamed(home: Home, old: str, new: str) -> Finding:
    """A study that is being renamed, or whose renaming was cut off."""
    again = home.command(f"rename {old} {new}")
    return Finding("warning", "rename", f"{old} is not renamed to {new} everywhere; complete it with: {again}")


def disk(home: Home) -> Finding:
    """Free space for checkpoints."""
    folder = next(parent for parent in (home.path, *home.path.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {folder}"
    if free > LOW_DISK_BYTES:
        return Finding("ok", "disk", text)
    return Finding("warning", "disk", f"{text}; checkpoints may not fit, so free some space or use storage.checkpoints")


def ledger(home: Home) -> Finding:
    """The ledger can be read and is on a local file system."""
    from hpo.ledger.reader import open_existing, study_names
    from hpo.ledger.sqlite import network_file_system, network_warning

    if not (home.path / "optuna.db").is_file():
        return Finding("ok", "ledger", "no study yet")
    studies = len(study_names(open_existing(home)))
    count = "1 study" if studies == 1 else f"{studies} studies"
    kind = network_file_system(home.ledger_url)
    return Finding("warning", "ledger", f"{count}; {network_warning(kind)}") if kind else Finding("ok", "ledger", count)


def tracking(home: Home) -> Finding:
    """MLflow can be used."""
    from hpo.tracking.preflight import check_store
    from hpo.tracking.runs import tracking_uri

    uri = tracking_uri(home)
    check_store(uri)
    return Finding("ok", "tracking", "the home folder" if uri == home.mlflow_url else uri)


def artifacts(home: Home) -> Finding:
    """MLflow's records name the files in this home folder; repaired where they name the place it was moved from."""
    from hpo.tracking.places import follow

    if moved := follow(home):
        places = "; ".join(f"{old} is now {new}" for old, new in moved.items())
        return Finding("differs", "artifacts", f"the home folder was moved, and MLflow now follows it: {places}")
    return Finding("ok", "artifacts", f"MLflow's files are in {home.artifacts}")
