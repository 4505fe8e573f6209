"""Search spaces and training recipes that ship with the tool, by name."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
MODELINE = "# yaml-language-server: $schema="
"""The beginning of a file's first line, which tells editors the schema by a path beside the file."""


def studies() -> dict[str, Path]:
    """The files of the shipped studies by name, sorted. `hpo run NAME` runs one."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def recipes() -> dict[str, Path]:
    """The files of the published training recipes by name, sorted. `hpo retrain NAME` trains one."""
    return {path.stem: path for path in sorted((FOLDER / "recipes").glob("*.yaml"))}


def shipped() -> dict[str, Path]:
    """The files of all studies and recipes by name."""
    return {**studies(), **recipes()}


def header(text: str) -> dict[str, str]:
    """What the comment at the beginning of a file says: its first paragraph as `summary`, then the fields below it.

    # A small study with real images.
    #
    #   hardware   two CPU cores
    #   duration   25 to 30 minutes
    """
    comment = re.match(r"(?:#.*\n)*", text.partition("\n")[2])
    paragraphs = [part.strip("\n") for part in re.split(r"^#\n", comment[0] if comment else "", flags=re.MULTILINE)]
    summary, fields = (*filter(None, paragraphs), "", "")[:2]
    found = {"summary": _unwrapped(summary)}
    for name, value in re.findall(r"^#   (\w+) +(.+(?:\n#      +.+)*)", fields, re.MULTILINE):
        found[name] = _unwrapped(value)
    return found


def _unwrapped(lines: str) -> str:
    return " ".join(line.removeprefix("#").strip() for line in lines.splitlines())
