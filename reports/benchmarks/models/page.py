"""The record of the families, and the page that shows it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from reports.benchmarks.models.families import ONE_SIZE, REFUSED, SIZES, TRAINED, UNTRIED, Family

RECORD = Path(__file__).with_name("families.json")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def read() -> list[Family]:
    """Return the recorded families."""
    return [Family(**item) for item in json.loads(RECORD.read_text(encoding="utf-8"))]


def write(families: Sequence[Family]) -> None:
    """Write the record and the page."""
    RECORD.write_text(
        json.dumps([dataclasses.asdict(family) for family in families], indent=1) + "\n", encoding="utf-8"
    )
    PAGE.write_text(render(families), encoding="utf-8")


def render(families: Sequence[Family]) -> str:
    """Return the page as Markdown."""
    by_outcome = {
        outcome: [family for family in families if family.outcome == outcome]
        for outcome in (TRAINED, ONE_SIZE, REFUSED, UNTRIED)
    }
    both, one, refused, untried = by_outcome.values()
    small, large = SIZES
    lines = [
        "# Models: which families of timm can be trained",
        "",
        f"timm's models come from {len(families)} modules, its families. The smallest member of each, by its number of",
        f"parameters, was checked as `hpo validate` does, with stages of {small} and {large} px, and then trained for",
        "one step per stage, evaluated and saved, from random weights on the CPU. Larger members of a family can",
        "differ, and so can other sizes. `hpo validate` builds the network of a study without memory for it, and says",
        "what it refuses.",
        "",
        f"- {len(both)} families train at both sizes.",
        f"- {len(one)} families train at {large} px, but take one size per training, or larger images only.",
        f"- {len(refused)} families are refused at these sizes.",
        *([f"- {len(untried)} families have not been tried."] if untried else []),
        "",
        "To repeat it, type `python -m reports.benchmarks.models`. It takes about half an hour on two CPU cores.",
        "",
        "## Refused",
        "",
        *_table(refused),
        "",
        f"## One stage at {large} px",
        "",
        "The reason is that of the refusal of two stages.",
        "",
        *_table(one),
        "",
        f"## Stages at {small} and {large} px",
        "",
        "| family | member | parameters, millions |",
        "|---|---|---:|",
        *(f"| `{family.module}` | `{family.model}` | {family.parameters / 1e6:.1f} |" for family in both),
    ]
    if untried:
        lines += ["", "## Not tried", "", ", ".join(f"`{family.module}`" for family in untried)]
    return "\n".join(lines) + "\n"


def _table(families: Sequence[Family]) -> list[str]:
    rows = [f"| `{family.module}` | `{family.model}` | {family.reason} |" for family in families]
    return ["| family | member | reason |", "|---|---|---|", *rows]
