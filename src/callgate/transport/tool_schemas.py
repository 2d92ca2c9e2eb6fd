"""What a server last said about arguments that HTTP requests mirror in `Mcp-Param-*` headers (2026-07-28)."""

from __future__ import annotations

from typing import Any

from callgate.protocol.headers import param_headers

LIMIT = 10_000
"""Tools remembered of one server."""


class ToolSchemas:
    """Input schemas, by tool name, of the tools that have mirrored arguments."""

    __slots__ = ("_schemas",)

    def __init__(self) -> None:
        self._schemas: dict[str, dict[str, Any]] = {}

    def learn(self, result: Any) -> None:
        """Take note of one page of an answer to `tools/list`."""
        tools = result.get("tools") if type(result) is dict else None
        if type(tools) is not list:
            return
        for tool in tools:
            name = tool.get("name") if type(tool) is dict else None
            if type(name) is not str:
                continue
            schema = tool.get("inputSchema")
            if param_headers(schema) and len(self._schemas) < LIMIT:
                self._schemas[name] = schema
            else:
                self._schemas.pop(name, None)

    def of_call(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The schema of the tool that a request calls, where it has mirrored arguments."""
        if not self._schemas or body.get("method") != "tools/call":
            return None
        params = body.get("params")
        name = params.get("name") if type(params) is dict else None
        return self._schemas.get(name) if type(name) is str else None
