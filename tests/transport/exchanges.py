"""Exchanges without a network: a sink that records, a client that posts to a route."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from callgate.config import Limits, ServerConfig
from callgate.protocol.headers import encode_value
from callgate.protocol.methods import MIRRORED_NAMES
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.stdio_upstream import StdioRoute
from tests.gate.fakes import FakeJournal, gate_of

RAW = Path(__file__).parent / "servers" / "raw.py"
BOTH = (b"accept", b"application/json, text/event-stream")
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Answer:
    """What came back on one exchange. `room`: bytes it takes before it says "hold back"."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.data = b""
        self.done = False
        self.cut = False
        self.room = room
        self.refusals: list[tuple[int, str]] = []
        self.news = asyncio.Event()

    def send_response(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        assert not self.status, "answered twice"
        self.status, self.headers, self.data, self.done = status, dict(headers), body, True
        self.news.set()

    def refused(self, exchange: Exchange, status: int, rule: str) -> None:
        self.refusals.append((status, rule))

    def send_head(self, exchange: Exchange, status: int, headers: Headers) -> None:
        assert not self.status, "answered twice"
        self.status, self.headers = status, dict(headers)
        self.news.set()

    def send_data(self, exchange: Exchange, data: bytes) -> bool:
        assert self.status
        assert not self.done
        self.data += data
        self.news.set()
        return len(self.data) <= self.room

    def send_end(self, exchange: Exchange, complete: bool) -> None:
        self.done = True
        self.cut = not complete
        self.news.set()

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def events(self) -> list[Any]:
        """The messages of an event stream so far."""
        blocks = self.data.decode().split("\n\n")[:-1]
        return [json.loads(line[6:]) for block in blocks for line in block.split("\n") if line.startswith("data: ")]

    @property
    def event_ids(self) -> list[str]:
        return [line[4:] for line in self.data.decode().split("\n") if line.startswith("id: ")]

    async def until(self, condition: Callable[[Answer], object], timeout_s: float = 60) -> Answer:
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                self.news.clear()
                await self.news.wait()
        return self

    async def end(self, timeout_s: float = 60) -> Answer:
        return await self.until(lambda answer: answer.done, timeout_s)


class Client:
    """Talks to one route; keeps its session and says which principal it is."""

    def __init__(self, route: Any, principal: str = "alice") -> None:
        self.route = route
        self.principal = principal
        self.session = b""
        self.version = ""
        self.exchanges: list[Exchange] = []

    def exchange(
        self, method: bytes, body: bytes, headers: Headers, room: int = 1 << 30, path: str = "/x/mcp", query: str = ""
    ) -> Answer:
        answer = Answer(room)
        if self.session:
            headers = [*headers, (b"mcp-session-id", self.session)]
        exchange = Exchange(answer, method, path, query, headers, body, self.principal, "x")
        self.exchanges.append(exchange)
        self.route.handle(exchange)
        return answer

    def leave(self, index: int = -1) -> None:
        """The connection of an exchange breaks."""
        exchange = self.exchanges[index]
        exchange.sink = None
        if exchange.on_disconnect is not None:
            exchange.on_disconnect()

    def post(self, message: Any, *extra: tuple[bytes, bytes], room: int = 1 << 30, **where: str) -> Answer:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.exchange(b"POST", body, [BOTH, *extra], room, **where)

    def request(self, id: Any, method: str, params: Mapping[str, Any] | None = None, room: int = 1 << 30) -> Answer:
        return self.post({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}, room=room)

    def modern(self, id: Any, method: str, params: Mapping[str, Any] | None = None, room: int = 1 << 30) -> Answer:
        params = dict(params or {})
        params["_meta"] = {**MODERN, **params.get("_meta", {})}
        headers = [(b"mcp-protocol-version", b"2026-07-28"), (b"mcp-method", method.encode())]
        name = params.get(MIRRORED_NAMES.get(method, ""))
        if name is not None:
            headers.append((b"mcp-name", encode_value(name)))
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        return self.post(message, *headers, room=room)

    def get(self, *extra: tuple[bytes, bytes], room: int = 1 << 30) -> Answer:
        return self.exchange(b"GET", b"", [(b"accept", b"text/event-stream"), *extra], room)

    async def initialize(self, version: str = "2025-11-25") -> Answer:
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        answer = await self.request("init", "initialize", params).end()
        self.session = answer.headers.get(b"mcp-session-id", b"")
        self.version = version
        done = self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert done.status == 202
        return answer


def config_of(behaviour: str, **fields: Any) -> ServerConfig:
    return ServerConfig("x", command=(sys.executable, "-I", "-S", str(RAW), behaviour), **fields)


async def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Look until it is true: nobody else could tell."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


def exists(pid: int) -> bool:
    """Whether there is such a process, a zombie included."""
    return Path(f"/proc/{pid}").exists()


@contextmanager
def hurried(route: Any) -> Iterator[None]:
    """What is posted to the only session, or process, in this block is to be answered at once.

    Before and after it servers have the time that is configured, which is enough on any machine.
    """
    tables = (getattr(route, "_sessions", {}), getattr(route, "_shared", {}), route._sse.sessions)
    (one,) = (one for table in tables for one in table.values())
    assert one._timeout_s == route._server.request_timeout_s
    one._timeout_s = 0.3
    try:
        yield
    finally:
        one._timeout_s = route._server.request_timeout_s


@asynccontextmanager
async def route_to(
    behaviour: str, *controls: Any, limits: Limits | None = None, mode: str = "enforce", **fields: Any
) -> AsyncIterator[tuple[StdioRoute, FakeJournal]]:
    """A route to `raw.py BEHAVIOUR`; afterwards no process of it may be left."""
    gate, journal = gate_of(*controls, mode=mode, limits=limits or Limits())
    loop = asyncio.get_running_loop()
    route = StdioRoute(config_of(behaviour, **fields), gate, loop)
    try:
        yield route, journal
    finally:
        began = loop.time()
        await route.close(1.0)
        gate.close()
        pids = [fields["pid"] for kind, fields in journal.notes if kind == "launch"]
        if loop.time() - began > 3:  # it gave up waiting for their ends: the machine stood still
            await until(lambda: not any(map(exists, pids)))
        assert not [pid for pid in pids if exists(pid)]
