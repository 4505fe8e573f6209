"""`hpo audit`: whether a study's pruning was right and what it cost, as a table or JSON, from the ledger alone."""

from __future__ import annotations

import dataclasses

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.cli.display.tables import show
from hpo.cli.programs import documents
from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.ledger.records import StudyRecord
from hpo.results.audit_text import columns, remarks, rows
from hpo.search.pruning_audit import Audit, audit


def show_audit(home: Home, name: str, as_json: bool) -> None:
    """Print a study's audit.

    Raises:
        UsageError: there is no such study.
    """
    study = read_study(home, name)
    pruning = audit(study)
    if as_json:
        documents.show("audit", {"study": name, **dataclasses.asdict(pruning), "remarks": remarks(study, pruning)})
        return
    console = Console(highlight=False)
    for line in remarks(study, pruning):
        console.print(Text(line))
    if pruning.rungs:
        show(_table(study, pruning))
        console.print(Text("With 95 % intervals. Rank agreement: 1 is the same order as at the end, 0 is no relation."))


def _table(study: StudyRecord, pruning: Audit) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns(study):
        table.add_column(title.replace(" with ", " with\n").replace(" the winner", "\nthe winner"), justify="right")
    for row in rows(pruning):
        table.add_row(*row)
    return table
