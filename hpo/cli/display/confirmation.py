"""A confirmation as sentences and a table that fits the terminal."""

from __future__ import annotations

from rich.console import Console, Group

from hpo.cli.display.tables import aligned, show
from hpo.results.confirmation import Confirmation
from hpo.results.confirmation_text import COLUMNS, lines, rows

HIDDEN = ("compute", "seeds", "95 % interval", "is best")
"""The columns that a narrow terminal lacks, in this order: the sentences say most of it."""


def show_confirmation(confirmation: Confirmation | None) -> None:
    """Print what was confirmed, and how each configuration did."""
    console = Console(highlight=False, markup=False, emoji=False)
    if confirmation is None:
        console.print("Nothing has been confirmed.")
        return
    for line in lines(confirmation):
        console.print(line)
    show(*(_table(confirmation, HIDDEN[:count]) for count in range(len(HIDDEN) + 1)), hidden=HIDDEN)


def _table(confirmation: Confirmation, without: tuple[str, ...]) -> Group:
    shown = [place for place, title in enumerate(COLUMNS) if title not in without]
    cells = [[row[place] for place in shown] for row in rows(confirmation)]
    return Group(*aligned([COLUMNS[place] for place in shown], cells, left=("trial", "verdict")))
