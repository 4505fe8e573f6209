"""Tables on the terminal, without cut cells."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

UNBOUNDED = 10_000
"""Wider than any table."""


def show(*tables: Table) -> None:
    """Print the first of `tables` that fits the terminal. Each table has fewer columns than the one before.

    If none fits, the last one is printed whole, because a wrapped line can still be read. A pipe or a file has no
    width and gets the first one.
    """
    console = Console(highlight=False)
    widths = [console.measure(table, options=console.options.update(width=UNBOUNDED)).maximum for table in tables]
    limit = console.width if console.is_terminal else UNBOUNDED
    chosen = next((place for place, width in enumerate(widths) if width <= limit), -1)
    Console(highlight=False, width=max(widths[chosen], console.width)).print(tables[chosen])
