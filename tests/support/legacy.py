"""Sessions of the handshake era over HTTP, by hand."""

from __future__ import annotations

import http.client
import json
from typing import Any

VERSION = "2025-11-25"
HELLO = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
Json = dict[str, Any]


def call(request_id: Any, tool: str, **arguments: Any) -> Json:
    """A `tools/call` that wants progress."""
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": f"token-{request_id}"}}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


class Session:
    """An initialized session."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self.headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        connection, response = self.open_stream({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO})
        assert response.status == 200, response.read()
        self.headers |= {"Mcp-Session-Id": response.headers["Mcp-Session-Id"], "MCP-Protocol-Version": VERSION}
        response.read()
        connection.close()
        connection, response = self.open_stream({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert response.status == 202, response.read()
        response.read()
        connection.close()

    def open_stream(self, message: Json) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send one message and return before its answer is read."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("POST", self._path, json.dumps(message), self.headers)
        return connection, connection.getresponse()
