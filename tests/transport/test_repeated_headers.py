"""A header that may come once comes twice: the gate answers the same before every kind of server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from callgate.config import ServerConfig
from callgate.transport.routes import build_route
from tests.gate.fakes import gate_of
from tests.transport.exchanges import RAW
from tests.transport.served import served

KINDS = ("http", "sse", "stdio")
HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HANDSHAKE}
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {}, "_meta": META}}
ONCE = {
    "host": "localhost",
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "origin": "http://localhost",
    "authorization": "Bearer 0123456789abcdef",
    "last-event-id": "1-1",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "t",
}
OF_HTTP = ("host", "origin", "authorization", "content-type", "content-encoding", "expect")
OF_MCP = ("Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Last-Event-ID")
ASKED = [
    ("POST", "/mcp", INITIALIZE),
    ("POST", "/mcp", CALL),
    ("POST", "/mcp", [CALL]),
    ("POST", "/mcp", {"jsonrpc": "2.0", "method": "notifications/initialized"}),
    ("POST", "/messages", INITIALIZE),
    ("GET", "/mcp", None),
    ("GET", "/sse", None),
    ("DELETE", "/mcp", None),
]


class Before:
    """A gate before a server of one kind. `reached`: how often somebody tried to reach that."""

    def __init__(self, base: str, journal: Any) -> None:
        self._port = int(base.rpartition(":")[2].partition("/")[0])
        self._journal = journal
        self.connections = 0

    @property
    def reached(self) -> int:
        return self.connections + sum(kind == "launch" for kind, _ in self._journal.notes)

    async def ask(self, method: str, path: str, message: Any, *more: tuple[str, str], **changed: str) -> Any:
        """Status and body of the answer; `more` are lines after the others."""
        body = b"" if message is None else json.dumps(message).encode()
        fields = [*{**ONCE, **changed}.items(), *more, ("content-length", str(len(body)))]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"{method} /x{path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        length = answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        rest = await asyncio.wait_for(reader.readexactly(int(length or 0)), 20)
        writer.close()
        return int(answer.split()[1]), json.loads(rest) if rest else None


@asynccontextmanager
async def before(kind: str) -> AsyncIterator[Before]:
    gate, journal = gate_of()
    here: list[Before] = []

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here[0].connections += 1
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp"
    if kind == "stdio":
        server = ServerConfig("x", command=(sys.executable, "-I", "-S", str(RAW), "echo"))
    else:
        server = ServerConfig("x", url=url, transport=kind)
    route = build_route(server, gate)
    try:
        async with served(route) as base:
            here.append(Before(base, journal))
            yield here[0]
    finally:
        await route.close(1.0)
        gate.close()
        listener.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_header_of_mcp_that_comes_twice_is_refused_whatever_else_is_asked(kind: str) -> None:
    async with before(kind) as gate:
        for name in OF_MCP:
            for method, path, message in ASKED:
                once = {key: value for key, value in ONCE.items() if key == name.lower()}
                more = [(name, once.get(name.lower(), "a"))] * (1 if once else 2)
                status, answer = await gate.ask(method, path, message, *more)
                assert status == 400, (name, method, path)
                assert answer["error"]["code"] == -32020
                assert answer["error"]["data"]["rule"] == "header-repeated"
                assert answer["error"]["message"] == f"the header {name} appears more than once"
        assert gate.reached == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_two_values_are_refused_in_either_order_and_in_any_spelling(kind: str) -> None:
    async with before(kind) as gate:
        for first, second in (("a", "b"), ("b", "a"), ("", "a"), ("a", ""), ("a", "a")):
            more = (("mcp-session-id", first), ("MCP-SESSION-ID", second))
            status, answer = await gate.ask("POST", "/mcp", CALL, *more)
            assert (status, answer["error"]["data"]["rule"]) == (400, "header-repeated")
        assert gate.reached == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_header_of_http_that_comes_twice_is_refused(kind: str) -> None:
    async with before(kind) as gate:
        for name in OF_HTTP:
            more = [(name, ONCE.get(name, "100-continue"))] * (1 if name in ONCE else 2)
            for method, path, message in ASKED:
                status, answer = await gate.ask(method, path, message, *more)
                assert (status, answer["error"]["data"]["rule"]) == (400, "http-duplicate-header"), (name, path)
        for length in ("2", "0", "999"):
            status, answer = await gate.ask("POST", "/mcp", CALL, ("content-length", length))
            assert (status, answer["error"]["data"]["rule"]) == (400, "http-malformed")
        assert gate.reached == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_request_with_each_header_once_goes_on(kind: str) -> None:
    async with before(kind) as gate:
        await gate.ask("POST", "/mcp", CALL)
        assert gate.reached == 1
        more = (("accept", "text/event-stream"), ("x-mcp-session-id", "a"), ("x-mcp-session-id", "b"))
        await gate.ask("POST", "/mcp", CALL, *more, authorization="Basic eDp5")
        assert gate.reached >= (1 if kind == "stdio" else 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_who_may_not_ask_learns_nothing_of_it(kind: str) -> None:
    async with before(kind) as gate:
        more = (("mcp-name", "t"),)
        status, answer = await gate.ask("POST", "/mcp", CALL, *more, origin="https://evil.example")
        assert (status, answer["error"]["data"]["rule"]) == (403, "http-origin")
        status, answer = await gate.ask("POST", "/nowhere", CALL, *more)
        assert (status, answer["error"]["data"]["rule"]) == (404, "http-path")
        assert gate.reached == 0
