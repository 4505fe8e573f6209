"""`hpo doctor`: what is wrong with this machine, or with a study's records, and what to do about it."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hpo.errors import HpoError
from hpo.home import Home
from hpo.redact import redact

LOW_DISK_BYTES = 5e9


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    state: Literal["ok", "warning", "failed"]
    subject: str
    text: str


def examine(home: Home, name: str | None) -> int:
    """Print every finding; 1 if any failed. With a study's name its MLflow runs are brought in line as well."""
    checks: list[Callable[[], Finding]] = [
        _python,
        *[_import(package) for package in ("torch", "torchvision", "timm", "ray.tune", "optuna", "mlflow")],
        _cuda,
        lambda: _home(home),
        lambda: _disk(home),
        lambda: _ledger(home),
        _tracking,
    ]
    if name is not None:
        checks.append(lambda: _mirror(home, name))
    worst = 0
    for check in checks:
        finding = _run(check)
        print(f"{finding.state:8} {finding.subject:14} {redact(finding.text)}")
        worst = max(worst, int(finding.state == "failed"))
    return worst


def _run(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except HpoError as error:
        return Finding("failed", "study", str(error))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    return Finding("ok" if supported else "warning", "Python", f"{version} (3.10 to 3.13 are tested)")


def _import(package: str) -> Callable[[], Finding]:
    def check() -> Finding:
        try:
            module = importlib.import_module(package)
        except Exception as error:  # noqa: BLE001 - a broken build raises anything, and that is the finding
            return Finding(
                "failed",
                package,
                f"cannot be imported: {error}. Install it again: pip install --force-reinstall",
            )
        root = sys.modules[package.partition(".")[0]]
        return Finding("ok", package, str(getattr(module, "__version__", getattr(root, "__version__", ""))))

    return check


def _cuda() -> Finding:
    from trainers.hardware import cuda_devices

    devices = cuda_devices()
    if devices:
        return Finding("ok", "CUDA", "; ".join(devices))
    return Finding("warning", "CUDA", "no device: studies run on the CPU, which suits only small ones")


def _home(home: Home) -> Finding:
    if not home.path.exists():
        return Finding("ok", "home", f"{home.path} (made by the first study)")
    usable = os.access(home.path, os.W_OK | os.X_OK)
    return Finding(
        "ok" if usable else "failed", "home", f"{home.path}{'' if usable else ' is not writable; use --home'}"
    )


def _disk(home: Home) -> Finding:
    folder = next(parent for parent in (home.path, *home.path.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {folder}"
    return (
        Finding("ok", "disk", text)
        if free > LOW_DISK_BYTES
        else Finding("warning", "disk", f"{text}; checkpoints may not fit")
    )


def _ledger(home: Home) -> Finding:
    from hpo.ledger import study_names
    from hpo.storage import open_existing

    if not (home.path / "optuna.db").is_file():
        return Finding("ok", "ledger", "no study yet")
    return Finding("ok", "ledger", f"{len(study_names(open_existing(home)))} studies")


def _tracking() -> Finding:
    from hpo.tracking import check_server

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return Finding("ok", "tracking", "the home folder")
    check_server(uri)
    return Finding("ok", "tracking", uri)


def _mirror(home: Home, name: str) -> Finding:
    from hpo.ledger import load_study
    from hpo.storage import open_existing
    from hpo.tracking import synchronise

    written = synchronise(load_study(open_existing(home, name), name), home)
    return Finding("ok", "MLflow", f"{len(written)} trials of {name} agree with the ledger")
