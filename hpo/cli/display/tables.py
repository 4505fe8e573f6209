"""Tables on the terminal: never with cells cut off."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

UNBOUNDED = 10_000
"""Wider than any table."""


def show(*tables: Table) -> None:
    """Print the first of `tables` that fits the terminal; each leaves out more than the one before.

    The last is printed whole even where it does not fit: a line that the terminal wraps can be read. In a pipe or
    file, which have no width, the first is.
    """
    console = Console(highlight=False)
    widths = [console.measure(table, options=console.options.update(width=UNBOUNDED)).maximum for table in tables]
    limit = console.width if console.is_terminal else UNBOUNDED
    chosen = next((place for place, width in enumerate(widths) if width <= limit), -1)
    Console(highlight=False, width=max(widths[chosen], console.width)).print(tables[chosen])
