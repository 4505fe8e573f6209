"""An environment in which only what a GPU machine needs can be imported: torch, torchvision, timm, safetensors, numpy,
pytest, and what these require themselves."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

ROOTS = ("torch", "torchvision", "timm", "safetensors", "numpy", "pytest")
SITE = """
import sys
from importlib.machinery import PathFinder

NAMES = frozenset({names!r})

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in NAMES else super().find_spec(name, path, target)

sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
"""
"""In the place of Python's finder one that does not find what the machine is to lack, neither to import nor to ask."""


def variables(folder: Path) -> dict[str, str]:
    """Return the environment variables of programs that run in such an environment; `folder` gets a file for it.

    Python imports `sitecustomize` from `PYTHONPATH` at its start, so that every process of such a program is bound.
    """
    (folder / "sitecustomize.py").write_text(SITE.format(names=sorted(missing())), encoding="utf-8")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path}


def missing() -> set[str]:
    """Importable names of all installed distributions that are not needed."""
    needed = _needed()
    return {
        name
        for name, owners in packages_distributions().items()
        if not any(_normal(owner) in needed for owner in owners) and name not in PROJECT
    }


PROJECT = {"hpo", "trainers", "reports", "search_spaces", "tests", "_hpo_efficientnetv2"}


def _needed() -> set[str]:
    """The distributions in `ROOTS` and what they require without extras."""
    found: set[str] = set()
    todo = list(ROOTS)
    while todo:
        name = _normal(todo.pop())
        if name in found:
            continue
        found.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # of another system
            continue
        todo += [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
