"""Asking a listener on loopback whether it is an MCP server: one `initialize`, and the end of what that began."""

from __future__ import annotations

import http.client
from ipaddress import ip_address
from typing import Final

TIMEOUT_S: Final = 1.0
MAX_ANSWER: Final = 64 * 1024
PATHS: Final = ("/mcp", "/")
_INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"callgate-inventory","version":"1"}}}'
)
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def speaks_mcp(address: str, port: int) -> str:
    """The path at which a listener answers MCP; empty where it does not within TIMEOUT_S a path.

    Raises ValueError for an address that is not loopback: nothing else is ever asked.
    """
    if not ip_address(address).is_loopback:
        raise ValueError("only listeners on loopback are asked")
    for path in PATHS:
        found = _ask(address, port, path)
        if found is None:
            return ""
        if found:
            return path
    return ""


def _ask(address: str, port: int, path: str) -> bool | None:
    """Whether this path answers MCP; None where the listener speaks no HTTP, or is too slow."""
    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, _INITIALIZE, _HEADERS)
        answer = connection.getresponse()
        session = answer.getheader("Mcp-Session-Id", "")
        body = answer.read1(MAX_ANSWER)
        mcp = bool(session) or (b'"jsonrpc"' in body and (b'"result"' in body or b'"error"' in body))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if session and session.isprintable():
        _end(address, port, path, session)
    return mcp


def _end(address: str, port: int, path: str, session: str) -> None:
    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
    try:
        connection.request("DELETE", path, headers={"Mcp-Session-Id": session})
        connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError):
        return
    finally:
        connection.close()
