"""Search spaces and training recipes that ship with the tool, by name."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def studies() -> dict[str, Path]:
    """Shipped studies, `hpo run NAME`: files by name, sorted."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def recipes() -> dict[str, Path]:
    """Published training recipes, `hpo retrain NAME`: files by name, sorted."""
    return {path.stem: path for path in sorted((FOLDER / "recipes").glob("*.yaml"))}
