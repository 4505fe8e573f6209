"""A table for programs, and its forms as text."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hpo.text import iso

Kind: TypeAlias = Literal["int", "float", "text", "time", "choice"]
"""What a column holds. `time`: seconds since the epoch. `choice`: a number, a text, true or false."""


@dataclass(frozen=True)
class Column:
    """A column and the kind of its values."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """Rows with one value per column; None where there is none."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]


def csv_text(table: Table) -> str:
    """Comma-separated values; a missing value is empty, a time is ISO 8601 in UTC."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in table.columns)
    times = _times(table)
    writer.writerows(
        [iso(cell) if place in times else _spreadsheet(cell) for place, cell in enumerate(row)] for row in table.rows
    )
    return text.getvalue()


def json_rows(table: Table) -> list[dict[str, Any]]:
    """One object per row. Missing values, and numbers that JSON does not know (NaN and the infinities), are null."""
    names, times = [column.name for column in table.columns], _times(table)
    return [
        {
            name: iso(cell) if place in times else _json(cell)
            for place, (name, cell) in enumerate(zip(names, row, strict=True))
        }
        for row in table.rows
    ]


def _times(table: Table) -> set[int]:
    """The places of the columns that hold times."""
    return {place for place, column in enumerate(table.columns) if column.kind == "time"}


def _spreadsheet(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell


def _json(cell: Any) -> Any:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
