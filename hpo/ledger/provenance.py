"""The origin of a result: library versions, git commit, host."""

from __future__ import annotations

import platform
import socket
import subprocess
import time
import uuid
from importlib import metadata
from typing import Any

TOOL = "hpo-efficientnetv2"
"""The name under which pip knows this tool."""
PACKAGES = (
    TOOL,
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
    """Installed versions of Python and of the packages that can change a result. Imports none of them."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_commit() -> str | None:
    """The git commit of the working directory, with `-dirty` if files are changed; None outside of a checkout."""
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


BESIDE = "beside"
"""Key of the folder of the specification, where an own trainer may lie."""


def provenance() -> dict[str, Any]:
    """What is recorded with a new study. `identity` distinguishes studies of the same name in different homes."""
    return {
        "identity": uuid.uuid4().hex,
        "created": time.time(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        "versions": versions(),
    }
