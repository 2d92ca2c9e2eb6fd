"""A gate over HTTP between clients and a server that are all played by the test, one event after the other.

What a gate does in one way can so be held against what it does in another.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from callgate.audit import open_journal
from callgate.audit.reader import chains, read_lines
from callgate.config import AuditConfig, Config, Limits, ListenConfig, ServerConfig
from callgate.gate.control import Control
from callgate.gate.engine import Gate
from callgate.transport.http.affinity import AffinityRoute, SessionSeal, WorkerSockets
from callgate.transport.http.client import Pool, Request
from callgate.transport.http.connection import Connection
from callgate.transport.http.quick import QuickCall
from callgate.transport.http.request_policy import RequestPolicy
from callgate.transport.http.route import HttpRoute
from callgate.transport.http.server import Endpoint, HttpServer, Site
from callgate.transport.http.upstream import Upstream
from tests.transport.http.test_known_heads_differential import Wire

MODERN = "2026-07-28"
CLIENTS = 4
WAYS = ("quick", "native", "none")
"""A call the native lane knows takes the quick way; the native lane alone; Python alone."""
TIMEOUT_S = 10.0
VARIES = ("time", "prev", "took_us", "chain", "pid", "digest", "signed_at", "signature", "key")


Event: TypeAlias = Callable[["Gated"], object]


class Clock:
    """What a route and a pool ask of their loop."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def call_later(self, *_: Any) -> Any:
        return asyncio.get_running_loop().call_later(3600, print)


class Reached(Pool):
    """A pool whose server takes every connection at once."""

    __slots__ = ("ends",)

    def __init__(self, *fields: Any) -> None:
        super().__init__(*fields)
        self.ends: list[tuple[Upstream, Wire]] = []

    def connect(self, request: Request) -> None:
        connection, wire = Upstream(self), Wire()
        connection.connection_made(wire)
        self.ends.append((connection, wire))
        self._all.add(connection)
        request.connection = connection
        connection.request = request
        wire.writelines((request.head, request.body))


class InOrder(set[Any]):
    """What a route has under way, always in the same order."""

    def __init__(self, pool: Reached) -> None:
        self.pool = pool

    def __iter__(self) -> Iterator[Any]:
        numbers = {id(connection): number for number, (connection, _) in enumerate(self.pool.ends)}

        def place(one: Any) -> int:
            connection = one.connection if type(one) is QuickCall else one.request and one.request.connection
            return numbers.get(id(connection), -1)

        return iter(sorted(super().__iter__(), key=place))


class Unhurried(HttpRoute):
    """A route without the quick way."""

    quick_call = None  # type: ignore[assignment]


class Gated:
    """A gate before a server, with clients' connections. `way` is one of WAYS.

    `sealed`: it is one of several workers, so that clients see other session ids than the server.
    """

    def __init__(self, way: str, state: Path, *controls: Control, sealed: bool = False) -> None:
        self.way = way
        self.seal = SessionSeal(b"k" * 32, 0) if sealed else None
        self.controls = controls
        self.state_dir = state
        self.journal = open_journal(state, AuditConfig(), process="test")
        self.entry = ServerConfig("s", url="http://127.0.0.1:9/mcp", transport="http", request_timeout_s=TIMEOUT_S)
        self.config = Config(servers={"s": self.entry}, limits=Limits(request_bytes=900, response_bytes=700))
        self.notes: list[Any] = []
        self.gates: list[Gate] = []
        self.clock = Clock()
        made = HttpRoute if way == "quick" else Unhurried
        self.route = made(self.entry, self.gate())
        self.route._ticker.cancel()
        self.route._loop = self.clock  # type: ignore[assignment]
        self.route.pool = self.pool = Reached(self.route.pool.origin)
        self.pool._loop = self.clock  # type: ignore[assignment]
        self.route._relays = InOrder(self.pool)
        self.tick(0.0)
        self.server = HttpServer(self.site(), lambda kind, fields: self.notes.append((kind, fields)), trusted=True)
        self.wires: list[Wire] = []
        self.connections: list[Connection] = []
        self.lost: set[Wire] = set()
        self.quick = 0
        for _ in range(CLIENTS):
            self.open()

    def gate(self) -> Gate:
        gate = Gate(self.config, self.controls, self.journal, cache_dir=self.state_dir.parent / "cache")
        if self.way == "none":
            gate.native = None
        self.gates.append(gate)
        return gate

    def site(self) -> Site:
        policy = RequestPolicy(ListenConfig())
        route = AffinityRoute(self.route, self.seal, WorkerSockets([])) if self.seal is not None else self.route
        endpoints = {b"/s/mcp": Endpoint("s", route, "/s/mcp")}
        return Site(ListenConfig(), self.config.limits, policy, policy, endpoints)

    def session(self, session_id: str, principal: str = "alice") -> str:
        """The session id as its client knows it."""
        return self.seal.seal(session_id.encode(), principal).decode() if self.seal is not None else session_id

    def open(self) -> None:
        wire, connection = Wire(), Connection(self.server)
        connection.connection_made(wire)
        self.wires.append(wire)
        self.connections.append(connection)

    def send(self, number: int, *pieces: bytes) -> None:
        """What a client sends."""
        for data in pieces:
            if not self.wires[number].closed:
                self.connections[number].data_received(data)
                self.quick += self.is_quick(number)

    def say(self, number: int, pieces: list[bytes]) -> None:
        """What the server sends on its connection of this number."""
        connection, wire = self.pool.ends[number]
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)

    def hang_up(self, number: int) -> None:
        self.pool.ends[number][1].closed = True

    def leave(self, number: int) -> None:
        self.wires[number].closed = True

    def settle(self) -> None:
        """Tell everybody of closed connections, as the loop does after the callback that closed them."""
        ends = [*zip(self.connections, self.wires, strict=True), *self.pool.ends]
        for connection, wire in ends:
            if wire.closed and wire not in self.lost:
                self.lost.add(wire)
                connection.connection_lost(None)
                self.settle()
                return

    def tick(self, seconds: float) -> None:
        self.clock.now += seconds
        self.route._tick()
        self.route._ticker.cancel()

    def renew(self) -> None:
        self.route.renew(self.entry, self.gate())
        self.server.site = self.site()

    def answer(self, number: int, body: bytes, header: str = "", status: str = "200 OK") -> None:
        """A JSON answer on the server's connection of this number."""
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{header}Content-Length: {len(body)}\r\n\r\n"
        self.say(number, [head.encode() + body])

    def is_quick(self, number: int) -> bool:
        """Whether the call of this client goes the quick way."""
        return type(self.connections[number]._current) is QuickCall

    def state(self) -> dict[str, Any]:
        route = self.route
        index = {id(connection): number for number, (connection, _) in enumerate(self.pool.ends)}
        return {
            "clients": [(wire.out, wire.closed, wire.ended) for wire in self.wires],
            "servers": [(wire.out, wire.closed) for _, wire in self.pool.ends],
            "idle": [index[id(connection)] for connection in self.pool._idle],
            "all": sorted(index[id(connection)] for connection in self.pool._all),
            "relays": len(route._relays),
            "deadlines": sorted(relay.deadline for relay in route._relays),
            "free": {principal: len(channels) for principal, channels in route.free.items()},
            "sessions": [
                (key, one.principal, one.busy, one.used, list(one.channel.pending), one.channel.replayable)
                for key, one in route.sessions._sessions.items()
            ],
            "notes": self.notes,
            "connections": [
                (one._reader.stage, one.deadline > 0, len(one._queue), one._current is None) for one in self.connections
            ],
        }

    def evidence(self) -> list[Any]:
        """Of all there was; it ends the gate."""
        self.pool.close()
        self.journal.close()
        return evidence(self.state_dir)


def evidence(state: Path) -> list[Any]:
    """All records, but for what differs between any two runs."""
    found = []
    for chain in sorted(chains(state / "audit")):
        for line, _ in read_lines(state / "audit" / chain):
            record = json.loads(line)
            for name in VARIES:
                record.pop(name, None)
            found.append(record)
    return found


def post(body: Any, *headers: str, target: str = "/s/mcp") -> bytes:
    data = json.dumps(body, separators=(",", ":")).encode()
    lines = [f"POST {target} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


INITIALIZE = post(
    {
        "jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},
    },
    "X-Callgate-Principal: alice",
)  # fmt: skip
