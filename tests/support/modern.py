"""Requests of revision 2026-07-28 over HTTP, by hand: what goes out is what the test says."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

VERSION = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Json:
        value: Json = json.loads(self.body)
        return value

    def events(self) -> list[Json]:
        """The messages of an event stream."""
        data = (line[5:] for line in self.body.splitlines() if line.startswith(b"data:"))
        return [json.loads(item) for item in data if item.strip()]

    def message(self) -> Json:
        """The one answer, whichever way it came."""
        if "text/event-stream" in self.headers.get("content-type", ""):
            return self.events()[-1]
        return self.json()

    def text(self) -> str:
        text: str = self.message()["result"]["content"][0]["text"]
        return text


def body(request_id: Any, method: str, params: Json | None = None, meta: Json | None = None) -> Json:
    """A request with the members that every request of this revision carries."""
    given = {f"{PREFIX}protocolVersion": VERSION, f"{PREFIX}clientCapabilities": {}, **(meta or {})}
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**(params or {}), "_meta": given}}


def call(request_id: Any, tool: str, **arguments: Any) -> Json:
    """A `tools/call`."""
    meta = {"progressToken": f"token-{request_id}"}
    return body(request_id, "tools/call", {"name": tool, "arguments": arguments}, meta)


def headers(message: Json) -> dict[str, str]:
    """The headers that mirror a message."""
    mirrored = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": message["method"],
    }
    if name := message["params"].get("name"):
        mirrored["Mcp-Name"] = name
    return mirrored


def post(port: int, path: str, message: Json, extra: Json | None = None, seconds: float = 30) -> Answer:
    """Send one request on a connection of its own and read the whole answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", path, json.dumps(message), {**headers(message), **(extra or {})})
        with connection.getresponse() as response:
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
    finally:
        connection.close()


@contextlib.contextmanager
def open_stream(port: int, path: str, message: Json) -> Iterator[http.client.HTTPResponse]:
    """Send one request; inside the block its answer can be read, or not."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", path, json.dumps(message), headers(message))
        with connection.getresponse() as response:
            yield response
