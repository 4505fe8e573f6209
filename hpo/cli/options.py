"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo.cli import completion

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder for everything studies write.", envvar="HPO_HOME", show_default="./runs"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show Ray's own output too.")]
SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC", help="A YAML file, or the name of a shipped search space.", autocompletion=completion.specs
    ),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Overrides, e.g. budget.trials=20.", autocompletion=completion.overrides),
]
StudyArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a study.", autocompletion=completion.studies)
]
SearchBestOption = Annotated[
    bool, typer.Option("--search-best", help="The best of the search, also where a confirmation chose another.")
]
