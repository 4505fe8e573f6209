"""The server of the Model Context Protocol: which tools an agent gets, and how an error reaches it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from hpo.cli.begin.version import as_json as version_json
from hpo.cli.programs.reading import Reading
from hpo.cli.programs.steering import Steering
from hpo.errors import HpoError
from hpo.home import Home
from hpo.redact import redact

INSTRUCTIONS = (
    "Reads hyperparameter searches: studies, their trials and results. Begin with list_studies or get_status. Values "
    "of accuracies are fractions from 0 to 1. Lists are bounded: left_out, rest and next_offset say what is missing."
)


def serve(home: Home, allow_steering: bool) -> None:
    """Serve the studies of a home folder on standard input and output until the client closes them."""
    server(home, allow_steering).run("stdio")


def server(home: Home, allow_steering: bool) -> MCPServer:
    """The server with its tools; those that change a study only if they are allowed."""
    version = str(version_json(verbose=False)["version"] or "")
    made = MCPServer("hpo", instructions=INSTRUCTIONS, version=version, log_level="WARNING")
    for tool in tools(Reading(home)):
        made.add_tool(_told(tool), annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    for tool in tools(Steering(home)) if allow_steering else ():
        made.add_tool(_told(tool), annotations=ToolAnnotations(read_only_hint=False, open_world_hint=False))
    return made


def tools(owner: Reading | Steering) -> list[Callable[..., dict[str, Any]]]:
    """Its public methods, in the order of the class."""
    return [getattr(owner, name) for name in vars(type(owner)) if not name.startswith("_")]


def _told(tool: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The tool with errors that an agent can act on."""

    @functools.wraps(tool)
    def told(*arguments: Any, **named: Any) -> dict[str, Any]:
        try:
            return tool(*arguments, **named)
        except HpoError as error:
            raise ToolError(redact("\n".join(filter(None, (str(error), error.advice))))) from error

    return told
