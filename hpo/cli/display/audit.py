"""`hpo audit`: what a study's pruning costs, as a table or JSON, from the ledger alone."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.cli.display.tables import show
from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.search.pruning_audit import Audit, audit, remarks
from hpo.search.rungs import rung_resource


def show_audit(home: Home, name: str, as_json: bool) -> None:
    """Print a study's audit.

    Raises:
        UsageError: there is no such study.
    """
    study = read_study(home, name)
    found = audit(study)
    if as_json:
        print(json.dumps(_plain({**dataclasses.asdict(found), "remarks": remarks(study, found)})))
        return
    console = Console(highlight=False)
    for line in remarks(study, found):
        console.print(Text(line))
    if found.rungs:
        show(_table(found, rung_resource(study.spec)))
        console.print(Text("With 95 % intervals. Tau: 1 ranks as the end does, 0 tells nothing."))


def _table(found: Audit, resource: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (f"rung ({resource})", "controls", "tau to the end", "winner passes"):
        table.add_column(title, justify="right", no_wrap=True)
    for rung in found.rungs:
        table.add_row(f"{rung.level:g}", str(rung.controls), str(rung.tau), str(rung.retention))
    return table


def _plain(value: Any) -> Any:
    """Without NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
