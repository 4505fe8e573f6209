"""Where a result came from: library versions, git commit, host."""

from __future__ import annotations

import platform
import socket
import subprocess
import time
import uuid
from importlib import metadata
from typing import Any

PACKAGES = (
    "hpo-efficientnetv2",
    "torch",
    "torchvision",
    "timm",
    "optuna",
    "ray",
    "mlflow",
    "sqlalchemy",
    "numpy",
)


def versions() -> dict[str, str]:
    """Installed versions of what can change a result, without importing any of it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the working directory's checkout, `-dirty` if it has changes; None outside one."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None


def provenance() -> dict[str, Any]:
    """What is recorded with a new study. `identity` tells studies of one name in different homes apart."""
    return {
        "identity": uuid.uuid4().hex,
        "created": time.time(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        "versions": versions(),
    }
