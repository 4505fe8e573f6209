"""The command `hpo mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from hpo.cli.options import HomeOption

INSTALL = "pip install 'hpo-efficientnetv2[mcp]'"


def mcp(
    allow_steering: Annotated[
        bool,
        typer.Option("--allow-steering", help="Also let the client stop, pause, extend and change running studies."),
    ] = False,
    home: HomeOption = None,
) -> None:
    """Serve the studies of a home folder to an agent over the Model Context Protocol.

    Speaks the protocol on standard input and output, so a client starts it. Reads only, unless --allow-steering is
    given.
    """
    from hpo.errors import UsageError
    from hpo.home import Home

    try:
        from hpo.cli.programs.server import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "mcp":
            raise
        raise UsageError(
            f"the server for agents needs the package mcp, which is not installed; install it with: {INSTALL}"
        ) from error
    serve(Home.at(home), allow_steering)
