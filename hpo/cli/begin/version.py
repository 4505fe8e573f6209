"""`hpo --version`, and with `-v` what a report of a fault needs. Imports none of the heavy packages: it answers at once
and also where one of them is broken."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from hpo.driver.gpus.nvml import driver_version, gpu_names
from hpo.ledger.provenance import TOOL, versions
from hpo.processes import usable_cpus

ALSO = ("pydantic", "typer", "rich", "psycopg")
"""Packages that can break a command, but change no result: `hpo.ledger.provenance.PACKAGES` has those."""

_NOT_INSTALLED = "of an unknown version, because it is not installed with pip"


def version() -> str:
    """The name and the version of this tool."""
    return " ".join(("hpo", versions().get(TOOL, _NOT_INSTALLED)))


def as_json(verbose: bool) -> dict[str, object]:
    """The version, and with `verbose` the table of `details`, for programs."""
    return {"version": versions().get(TOOL), "details": dict(_details()) if verbose else None}


def details() -> str:
    """The table of `hpo --version -v`: a name and what there is on each line."""
    lines = list(_details())
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines)


def _details() -> Iterator[tuple[str, str]]:
    installed = versions()
    yield "hpo", f"{installed.pop(TOOL, _NOT_INSTALLED)}, in {Path(__file__).parents[2]}"
    yield "python", f"{installed.pop('python')} ({platform.python_implementation()})"
    yield "platform", platform.platform()
    yield "CPUs", f"{usable_cpus()} of {os.cpu_count()} usable"
    yield "GPUs", gpus()
    yield "CUDA", f"{cuda()} in torch"
    yield from installed.items()
    yield "sqlite", sqlite3.sqlite_version
    yield from ((name, found) for name in ALSO if (found := _installed(name)))


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cuda() -> str:
    """The version of CUDA for which torch was built, read from its files; `none` in a build for the CPU."""
    try:
        text = Path(str(metadata.distribution("torch").locate_file("torch/version.py"))).read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, OSError):
        return "unknown"
    found = re.search(r"^cuda\b.*=\s*'([\d.]+)'", text, re.MULTILINE)
    return found[1] if found else "none"


def gpus() -> str:
    """The names of the GPUs and the version of their driver."""
    if find_spec("pynvml") is None:
        return "unknown: the package nvidia-ml-py is not installed"
    names = gpu_names()
    return f"{', '.join(names)}; driver {driver_version()}" if names else "none"
