"""The server of the Model Context Protocol: which tools an agent gets, and how an error reaches it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations

from hpo.cli.begin.version import as_json as version_json
from hpo.cli.programs.documents import text
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
    made = _Server("hpo", instructions=INSTRUCTIONS, version=version, log_level="WARNING")
    for tool in tools(Reading(home)):
        made.add_tool(_told(tool), annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    for tool in tools(Steering(home)) if allow_steering else ():
        made.add_tool(_told(tool), annotations=ToolAnnotations(read_only_hint=False, open_world_hint=False))
    return made


class _Server(MCPServer):
    """A server whose errors are sentences, also about what an agent gets wrong in its call."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Call a tool.

        Raises:
            ToolError: the call or the tool failed.
        """
        known = {tool.name: tool for tool in await self.list_tools()}
        if name not in known:
            steers = any(tool.__name__ == name for tool in tools(Steering))
            hint = "; this server only reads: start it with --allow-steering" if steers else ""
            raise ToolError(f"there is no tool {name!r}{hint}; tools: {', '.join(known)}")
        taken = list(known[name].input_schema["properties"])
        if unknown := [word for word in arguments if word not in taken]:
            raise ToolError(f"{name} takes no {', '.join(unknown)}; it takes: {', '.join(taken)}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            wrong = getattr(error.__cause__, "errors", None)  # of pydantic
            if wrong is None:
                raise
            lines = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong())
            raise ToolError(f"{name}: {'; '.join(lines)}") from error


def tools(owner: Reading | Steering | type[Steering]) -> list[Callable[..., dict[str, Any]]]:
    """Its public methods, in the order of the class."""
    names = vars(owner if isinstance(owner, type) else type(owner))
    return [getattr(owner, name) for name in names if not name.startswith("_")]


def _told(tool: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """The tool with answers in short JSON, and errors that an agent can act on."""

    @functools.wraps(tool)
    def told(*arguments: Any, **named: Any) -> CallToolResult:
        try:
            answer = tool(*arguments, **named)
            return CallToolResult(content=[TextContent(type="text", text=text(answer))], structured_content=answer)
        except HpoError as error:
            raise ToolError(redact("\n".join(filter(None, (str(error), error.advice))))) from error

    return told
