"""Search spaces and training recipes that ship with the tool, by name."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def studies() -> dict[str, Path]:
    """The files of the shipped studies by name, sorted. `hpo run NAME` runs one."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def recipes() -> dict[str, Path]:
    """The files of the published training recipes by name, sorted. `hpo retrain NAME` trains one."""
    return {path.stem: path for path in sorted((FOLDER / "recipes").glob("*.yaml"))}
