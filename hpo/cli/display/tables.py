"""Tables on the terminal, without cut cells."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

UNBOUNDED = 10_000
"""Wider than any table."""


def show(*tables: RenderableType, hidden: Sequence[str] = (), piped: int = UNBOUNDED) -> None:
    """Print the first of `tables` that fits the terminal. Each table is narrower than the one before.

    If none fits, the last one is printed whole, because a wrapped line can still be read.

    Args:
        hidden: the column that each table lacks beside those that the one before lacks, or "" where it has shorter
            cells only; a line names what is hidden.
        piped: the width of a pipe or a file, which by default gets the first table.
    """
    console = Console(highlight=False)
    limit = console.width if console.is_terminal else piped
    for place in range(len(tables)):
        table = tables[place]
        width = console.measure(table, options=console.options.update(width=UNBOUNDED)).maximum
        if width <= limit:
            break
    Console(highlight=False, width=max(width, console.width)).print(table)
    if missing := [title for title in hidden[:place] if title]:
        columns = "column" if len(missing) == 1 else "columns"
        console.print(f"hidden {columns}: {', '.join(missing)} (a wider terminal shows all)", style="dim")


def aligned(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Container[str] = (),
    style: str = "bold",
    bold: Container[int] = (),
) -> Iterator[Text]:
    """The lines of a table: the titles, which may have several lines, and the rows. Two spaces separate columns.

    A table of rich measures each cell several times, which takes most of the time of a large table or a picture.

    Args:
        left: titles of the columns that are aligned to the left; the others are aligned to the right.
        style: of the titles.
        bold: places of the rows in bold.
    """
    heads = list(zip_longest(*(reversed(title.split("\n")) for title in titles), fillvalue=""))[::-1]
    widths = [max(map(cell_len, column)) for column in zip(*heads, *rows, strict=True)]
    for at, row in enumerate((*heads, *rows), -len(heads)):
        padded = []
        for title, text, width in zip(titles, row, widths, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(text + space if title in left else space + text)
        weight = style if at < 0 else "bold" if at in bold else ""
        yield Text("  ".join(padded).rstrip(), style=weight, no_wrap=True, overflow="ellipsis")
