"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.cli import completion

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Home folder: all studies, results and logs.", envvar="HPO_HOME", show_default="./runs"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also show the output of Ray, and plain lines instead of the live view.")
]
SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="YAML file, or name of a shipped search space, for example quickstart.",
        autocompletion=completion.specs,
    ),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings to change, for example budget.trials=20.",
        autocompletion=completion.overrides,
    ),
]
StudyArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a study.", autocompletion=completion.studies)
]
SearchBestOption = Annotated[
    bool,
    typer.Option(
        "--search-best", help="Take the best trial of the search, even if a confirmation chose another trial."
    ),
]
