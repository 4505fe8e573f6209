"""The command that writes the trials of a study for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.cli.options import HomeOption, StudyArgument
from hpo.cli.programs import documents


def trials(
    name: StudyArgument,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write comma-separated values. This is the default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON: a list with one object per row.")] = False,
    as_parquet: Annotated[bool, typer.Option("--parquet", help="Write Parquet to the file that -o names.")] = False,
    epochs: Annotated[
        bool, typer.Option("--epochs", help="One row per epoch of every trial, with all metrics.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. Default: standard output.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write all trials of a study as a table for other programs.

    One row per trial: state, value, parameters, seconds and the reason of its end.
    """
    from hpo.errors import UsageError
    from hpo.home import Home
    from hpo.ledger.reader import read_study
    from hpo.results.tables.frames import write_parquet
    from hpo.results.tables.table import csv_text, json_rows
    from hpo.results.tables.trials import epoch_table, trial_table

    if as_csv + as_json + as_parquet > 1:
        raise UsageError("--csv, --json and --parquet exclude each other; leave all but one of them out")
    to_stdout = output is None or output == Path("-")
    if as_parquet and to_stdout:
        raise UsageError("--parquet writes a binary file; name the file with -o FILE")
    study = read_study(Home.at(home), name)
    table = epoch_table(study) if epochs else trial_table([study])
    try:
        if as_parquet:
            assert output is not None  # checked above
            write_parquet(table, output)
            return
        text = f"{documents.text(json_rows(table))}\n" if as_json else csv_text(table)
        if to_stdout:
            print(text, end="")
        else:
            assert output is not None
            output.write_text(text, encoding="utf-8")
    except OSError as error:
        if error.filename is None:  # standard output; `hpo.cli.app` reports it
            raise
        raise UsageError(f"{output} cannot be written: {error.strerror}; name another file with -o") from error
