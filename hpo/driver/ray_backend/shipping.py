"""Code that perhaps only the driver has: the trainer's module and what it imports, for the nodes of a cluster."""

from __future__ import annotations

import ast
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

OURS = {"hpo", "trainers", "search_spaces", "reports"}
"""This tool's own packages. Every node has it installed, because the workers are part of it."""
LARGEST_FILE, MOST_FILES = 2**20, 2000
"""Larger files (bytes) are data and stay here. A folder of more files than that is no package and stays here."""
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where `ray job submit` leaves its own runtime environment."""


def runtime_env(trainer: str, beside: str | None = None, *, cluster: bool = True) -> dict[str, Any]:
    """The environment in which Ray starts the workers; empty if there is no code to ship.

    Args:
        trainer: `module:function`.
        beside: the folder of the specification, where Python looks for the trainer last.
        cluster: whether workers run on other machines. Those of this one find by themselves what Python finds here.
    """
    module, places = trainer.partition(":")[0], [os.getcwd(), *sys.path]
    if not cluster and (beside is None or _local(module.partition(".")[0], places)):
        return {}
    submitted = json.loads(os.environ.get(SUBMITTED) or "{}").get("runtime_env") or {}
    if "py_modules" in submitted:  # Ray refuses two lists; who submits the job has chosen
        return {}
    code = local_code(module, [*places, *([beside] if beside else ())])
    large = [f"/{file.relative_to(path)}" for path in code if path.is_dir() for file in _files(path) if _is_large(file)]
    return {"py_modules": [str(path) for path in code], "excludes": large} if code else {}


def local_code(module: str, search: Sequence[str]) -> list[Path]:
    """The files and package folders of a module and of all that it imports, as far as they are not installed.

    Args:
        search: folders in which Python looks for modules.
    """
    found: dict[str, Path | None] = {}
    wanted = [module.partition(".")[0]]
    while wanted:
        name = wanted.pop()
        if name not in found:
            path = found[name] = None if name in OURS else _local(name, search)
            for file in _files(path) if path else ():
                wanted += _imports(file) if file.suffix == ".py" else ()
    return [path for path in found.values() if path is not None]


def _local(name: str, search: Sequence[str]) -> Path | None:
    """Where a module lies that is not installed; None for others."""
    spec = None if name in sys.builtin_module_names else PathFinder.find_spec(name, list(search))
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    path = Path(folders[0] if folders else spec.origin or "").resolve()
    installed = (sysconfig.get_path("stdlib"), *site.getsitepackages(), site.getusersitepackages())
    if any(path.is_relative_to(Path(folder).resolve()) for folder in installed):
        return None
    return path if path.suffix == ".py" or (path.is_dir() and len(_files(path)) <= MOST_FILES) else None


def _files(path: Path) -> list[Path]:
    """A file, or the files below a folder without hidden ones; one more than `MOST_FILES` at most."""
    return [path] if path.is_file() else [file for file, _ in zip(_walk(path), range(MOST_FILES + 1), strict=False)]


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        yield from (Path(place) / name for name in names if not name.startswith("."))


def _is_large(file: Path) -> bool:
    return file.stat().st_size > LARGEST_FILE


def _imports(file: Path) -> list[str]:
    """Names of the top-level modules that a file imports; none for a file that cannot be read as Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
    return [name.partition(".")[0] for name in names]
