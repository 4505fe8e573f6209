"""Tables as data frames of pandas, and as Parquet files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import UsageError
from hpo.results.tables.table import Column, Table

if TYPE_CHECKING:
    import pandas


def frame(table: Table) -> pandas.DataFrame:
    """The table with a dtype by kind: int64 (Int64 where values are missing), float64, object, and times in UTC."""
    import pandas

    cells = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    return pandas.DataFrame(
        {column.name: _series(column, values) for column, values in zip(table.columns, cells, strict=True)}
    )


def _series(column: Column, values: tuple[Any, ...]) -> pandas.Series:
    import pandas

    if column.kind == "time":
        return pandas.Series(pandas.to_datetime(pandas.Series(values, dtype="float64"), unit="s", utc=True))
    dtypes = {"int": "int64" if None not in values else "Int64", "float": "float64", "text": "object"}
    return pandas.Series(values, dtype=dtypes.get(column.kind, "object"))


def write_parquet(table: Table, path: Path) -> None:
    """Write the table as a Parquet file. A parameter whose choices are of several types becomes a text.

    Raises:
        UsageError: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    if find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow, which is not installed; install it: pip install pyarrow")
    data = frame(table)
    for column in table.columns:
        if column.kind == "choice" and len({type(value) for value in data[column.name].dropna()}) > 1:
            data[column.name] = data[column.name].map(str, na_action="ignore")
    data.to_parquet(path, index=False)
