"""Sessions of the handshake era over HTTP, by hand."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
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
        with self.open_stream({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}) as response:
            assert response.status == 200, response.read()
            response.read()
            self.headers |= {"Mcp-Session-Id": response.headers["Mcp-Session-Id"], "MCP-Protocol-Version": VERSION}
        with self.open_stream({"jsonrpc": "2.0", "method": "notifications/initialized"}) as response:
            assert response.status == 202, response.read()

    @contextlib.contextmanager
    def open_stream(self, message: Json) -> Iterator[http.client.HTTPResponse]:
        """Send one message; inside the block its answer can be read, or not."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            connection.request("POST", self._path, json.dumps(message), self.headers)
            with connection.getresponse() as response:
                yield response
