"""What a server last said about arguments that HTTP requests mirror in `Mcp-Param-*` headers (2026-07-28)."""

from __future__ import annotations

from typing import Any

from callgate.protocol.codec import Codec
from callgate.protocol.headers import SCHEMA_KEYWORD, param_headers
from callgate.protocol.message import Direction, Kind, Message

PRINCIPALS = 256
"""Callers whose lists of tools are remembered; the oldest makes room."""
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
            if param_headers(schema) and (name in self._schemas or len(self._schemas) < LIMIT):
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


class CallerSchemas(dict[str, ToolSchemas]):
    """The same by caller, for each may see another list. Empty as long as no tool has mirrored arguments."""

    def of_call(self, principal: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """See ToolSchemas."""
        schemas = self.get(principal)
        return schemas.of_call(body) if schemas is not None else None

    def learn(self, principal: str, body: bytes, codec: Codec) -> None:
        """Take note of an answer to `tools/list`, as its caller gets it."""
        if SCHEMA_KEYWORD.encode() in body or principal in self:
            message = codec.decode(body, Direction.SERVER)
            if isinstance(message, Message) and message.kind is Kind.RESULT:
                if principal not in self and len(self) >= PRINCIPALS:
                    del self[next(iter(self))]
                self.setdefault(principal, ToolSchemas()).learn(message.body["result"])
