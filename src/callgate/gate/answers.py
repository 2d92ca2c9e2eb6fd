"""The bytes a caller gets in place of what was refused.

A refused `tools/call` is answered by a tool result with `isError`, so that the model reads why; anything
else by a JSON-RPC error. The code lies outside -32768..-32000, which JSON-RPC and MCP reserve.
"""

from __future__ import annotations

from typing import Any

import orjson

from callgate.protocol.message import RequestId

DENIED = -31403
"""A control refused the message."""
UNAVAILABLE = -31503
"""The gate cannot do its work: the evidence log cannot be written, the server is gone."""


def error(request_id: RequestId | None, code: int, message: str, rule: str) -> bytes:
    """A JSON-RPC error with the stable rule id in `data.rule`."""
    return orjson.dumps(
        {
            "jsonrpc": "2.0",
            "id": request_id,
            "error": {"code": code, "message": message, "data": {"source": "callgate", "rule": rule}},
        }
    )


def tool_error(request_id: RequestId, message: str, rule: str, *, modern: bool) -> bytes:
    """A tool result the model reads as a failure. `modern` adds the `resultType` of 2026-07-28."""
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": f"Blocked by callgate ({rule}): {message}"}],
        "isError": True,
    }
    if modern:
        result["resultType"] = "complete"
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "result": result})


def refusal(request_id: RequestId, method: str, message: str, rule: str, *, modern: bool) -> bytes:
    """The answer to a request that a control refused."""
    if method == "tools/call":
        return tool_error(request_id, message, rule, modern=modern)
    return error(request_id, DENIED, f"Blocked by callgate: {message}", rule)
