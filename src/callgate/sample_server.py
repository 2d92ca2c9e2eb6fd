"""A small MCP server to try callgate with: stdio, both eras, no dependencies, this one file.

It speaks the handshake of 2024-11-05 to 2025-11-25 and the stateless protocol of 2026-07-28 (`server/discover`,
per-request `_meta`, `resultType`, cache fields). `callgate serve` starts it where no server is configured;
by hand: `callgate run -- python -m callgate.sample_server`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

NAME = "callgate-sample"
VERSION = "1.0.0"
HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MODERN = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
SERVER_KEY = "io.modelcontextprotocol/serverInfo"
INSTRUCTIONS = "Three harmless tools to see calls pass through callgate."
CAPABILITIES: dict[str, Any] = {"tools": {}}
CACHE = {"ttlMs": 60_000, "cacheScope": "public"}


class RpcError(Exception):
    """A JSON-RPC error to answer with."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class ToolError(Exception):
    """A tool cannot do what it was asked: the model is to read why."""


def _tool(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "inputSchema": {"type": "object", "properties": properties, "required": sorted(properties)},
        "annotations": {"readOnlyHint": True},
    }


TOOLS = [
    _tool("add", "Adds two numbers", {"a": {"type": "number"}, "b": {"type": "number"}}),
    _tool("echo", "Returns the text it is given", {"text": {"type": "string"}}),
    _tool("time", "Tells the time in UTC", {}),
]


def add(arguments: dict[str, Any]) -> str:
    """The tool `add`."""
    a, b = arguments.get("a"), arguments.get("b")
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, int | float) or not isinstance(b, int | float):
        raise ToolError("a and b must be numbers")
    return str(a + b)


def echo(arguments: dict[str, Any]) -> str:
    """The tool `echo`."""
    text = arguments.get("text")
    if not isinstance(text, str):
        raise ToolError("text must be a string")
    return text


def time(_: dict[str, Any]) -> str:
    """The tool `time`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


RUN: dict[str, Callable[[dict[str, Any]], str]] = {"add": add, "echo": echo, "time": time}


def call(params: dict[str, Any]) -> dict[str, Any]:
    """The result of `tools/call`: a tool's failure is a result, an unknown tool an error."""
    name, arguments = params.get("name"), params.get("arguments") or {}
    if not isinstance(name, str) or name not in RUN or not isinstance(arguments, dict):
        raise RpcError(-32602, "no such tool")
    try:
        text, failed = RUN[name](arguments), False
    except ToolError as error:
        text, failed = str(error), True
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def handshake(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A request of the revisions before 2026-07-28."""
    if method == "initialize":
        asked = params.get("protocolVersion")
        return {
            "protocolVersion": asked if asked in HANDSHAKE else HANDSHAKE[0],
            "capabilities": CAPABILITIES,
            "serverInfo": {"name": NAME, "version": VERSION},
            "instructions": INSTRUCTIONS,
        }
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        return call(params)
    raise RpcError(-32601, "method not found")


def modern(method: str, params: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """A request of 2026-07-28: complete in itself."""
    if meta[VERSION_KEY] != MODERN:
        supported = [MODERN]
        raise RpcError(-32022, "unsupported protocol version", {"supported": supported, "requested": meta[VERSION_KEY]})
    if not isinstance(meta.get(CAPABILITIES_KEY), dict):
        raise RpcError(-32602, f"_meta needs {CAPABILITIES_KEY}")
    if method == "server/discover":
        result = {
            "supportedVersions": [MODERN],
            "capabilities": CAPABILITIES,
            "instructions": INSTRUCTIONS,
            **CACHE,
        }
    elif method == "tools/list":
        result = {"tools": TOOLS, **CACHE}
    elif method == "tools/call":
        result = call(params)
    else:
        raise RpcError(-32601, "method not found")
    return {"resultType": "complete", **result, "_meta": {SERVER_KEY: {"name": NAME, "version": VERSION}}}


def answer(message: Any) -> dict[str, Any] | None:
    """The answer to one message; None for what has none."""
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        return None if isinstance(message, dict) and "id" in message else _error(None, -32600, "not a request")
    if "id" not in message:
        return None
    params = message.get("params") or {}
    if not isinstance(params, dict):
        return _error(message["id"], -32602, "params must be an object")
    meta = params.get("_meta")
    try:
        if isinstance(meta, dict) and VERSION_KEY in meta:
            result = modern(message["method"], params, meta)
        else:
            result = handshake(message["method"], params)
    except RpcError as error:
        return _error(message["id"], error.code, str(error), error.data)
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def _error(request_id: Any, code: int, text: str, data: Any = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": text}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def main() -> None:
    """Serve standard input until it ends."""
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            reply = answer(json.loads(line))  # noqa: TID251 - a server of its own, with nothing of callgate in it
        except ValueError:
            reply = _error(None, -32700, "not JSON")
        if reply is not None:
            sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
