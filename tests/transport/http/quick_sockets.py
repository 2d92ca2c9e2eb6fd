"""Gateways on real sockets, one for each of WAYS, told the same story one after the other.

What comes of it must be the same each time: every byte a client got, every request and every connection the server
saw, the evidence, the notes, and what is still under way.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self, TypeAlias

from callgate.audit import open_journal
from callgate.config import AuditConfig, Config, ListenConfig, ServerConfig
from callgate.gate.engine import Gate
from callgate.transport.http import tls
from callgate.transport.http.connection import Connection
from callgate.transport.http.known_request import KnownRequest
from callgate.transport.http.quick import QuickCall
from callgate.transport.http.request_policy import RequestPolicy
from callgate.transport.http.route import HttpRoute
from callgate.transport.http.server import Endpoint, HttpServer
from callgate.transport.http.server import Site as Judged
from tests.transport.http.gated import MODERN, WAYS, Unhurried, evidence, post
from tests.transport.http.harness import Answer, Client, LoopThread, Peer, Request, Upstream

META = "io.modelcontextprotocol/protocolVersion"
Respond: TypeAlias = Callable[[Request, Peer], Any]


class Outspoken(HttpRoute):
    """A route that puts every failure of its server on record: how many come in a second, the machine decides."""

    def trouble(self, what: str) -> None:
        self._troubles = 0
        super().trouble(what)


class Plain(Outspoken, Unhurried):
    """A route without the quick way."""


class Counted(Outspoken):
    """A route that counts the calls that take the quick way."""

    taken = 0

    def quick_call(self, client: Connection, known: KnownRequest, data: bytes) -> QuickCall | None:
        call = super().quick_call(client, known, data)
        self.taken += call is not None
        return call


class _Heard:
    """What a client reads, kept."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.data = b""

    def readline(self) -> bytes:
        return self._kept(self._file.readline())

    def read(self, size: int = -1) -> bytes:
        return self._kept(self._file.read(size))

    def _kept(self, data: bytes) -> bytes:
        self.data += data
        return data

    def close(self) -> None:
        self._file.close()


class Caller(Client):
    """One client of a site. `ask` sends and reads the whole answer."""

    def __init__(self, sock: socket.socket, headers: tuple[str, ...]) -> None:
        self.socket = sock
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(30)
        self.heard = _Heard(sock.makefile("rb"))
        self.file = self.heard  # type: ignore[assignment]
        self.headers = headers

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer()

    def legacy(self, number: int, session: str = "s-1", *more: str, **arguments: Any) -> bytes:
        """A call within a session."""
        return post(call(number, **arguments), *self.headers, f"Mcp-Session-Id: {session}", *more)

    def modern(self, number: int, *more: str, **arguments: Any) -> bytes:
        """A call that stands alone."""
        body = call(number, **arguments)
        body["params"]["_meta"] = {META: MODERN}
        mirrored = (f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: tools/call", "Mcp-Name: t")
        return post(body, *self.headers, *mirrored, *more)


def initialize(name: str) -> dict[str, Any]:
    """Of a client of this name, which gets a session of this name."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": name, "version": "1"}}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}


def call(number: int, **arguments: Any) -> dict[str, Any]:
    params = {"name": "t", "arguments": arguments or {"q": "a"}}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def text(request_id: Any, said: str = "b") -> bytes:
    """The answer to a call."""
    result = {"content": [{"type": "text", "text": said}]}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}, separators=(",", ":")).encode()


def opens(request: Request, peer: Peer) -> bool:
    """Answer an `initialize`, by opening a session that is named after its client; False: it is none."""
    body = request.json()
    if body.get("method") != "initialize":
        return False
    name = body["params"]["clientInfo"]["name"]
    result = {"protocolVersion": "2025-11-25", "capabilities": {}}
    answer = json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": result}).encode()
    peer.answer(answer, headers=f"Mcp-Session-Id: s-{name}\r\n")
    return True


def plainly(request: Request, peer: Peer) -> None:
    """A server of sessions that answers each call with what it was asked."""
    if request.method != "POST":
        peer.answer(b"", "405 Method Not Allowed")
    elif "method" not in request.json():
        peer.answer(b"", "202 Accepted")
    elif not opens(request, peer):
        peer.answer(text(request.json()["id"], str(request.json()["params"]["arguments"].get("q"))))


class Site:
    """One gateway on a real socket before one server. `over`: tcp, tls, or a worker's private unix socket."""

    def __init__(
        self,
        way: str,
        place: Path,
        respond: Respond = plainly,
        over: str = "tcp",
        upstream_tls: ListenConfig | None = None,
        upstream: Upstream | None = None,
        **listen: Any,
    ) -> None:
        self.way = way
        self.over = over
        self.place = place
        self.listen = ListenConfig(**listen)
        self.callers: list[Caller] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self._left = ExitStack()
        context = tls.server_context(upstream_tls) if upstream_tls is not None else None
        self.upstream = upstream or Upstream(respond, context)
        self._left.callback(self.upstream.close)
        name = "https://localhost" if upstream_tls is not None else "http://127.0.0.1"
        self.entry = ServerConfig("s", url=f"{name}:{self.upstream.port}/mcp", transport="http")
        self.config = Config(listen=self.listen, servers={"s": self.entry})
        self.thread = LoopThread()
        self.journal = open_journal(place, AuditConfig(), process="test")
        self.gate = self.thread.call(self.new_gate)
        self.thread.run(self._start(upstream_tls))

    def new_gate(self) -> Gate:
        gate = Gate(self.config, (), self.journal, cache_dir=self.place.parent / "cache")
        if self.way == "none":
            gate.native = None
        return gate

    async def _start(self, upstream_tls: ListenConfig | None) -> None:
        self.route = (Counted if self.way == "quick" else Plain)(self.entry, self.gate)
        if upstream_tls is not None:
            origin = self.route.pool.origin
            origin.tls = ssl.create_default_context(cafile=upstream_tls.tls_certificate)
        self.server = HttpServer(self.judged(), self._note, trusted=self.over == "unix")
        if self.over == "unix":
            self.address: Any = str(self.place.parent / f"socket-{self.way}")
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(self.address)
        else:
            sock = socket.create_server(("127.0.0.1", 0))
            self.address = sock.getsockname()
        sock.setblocking(False)
        await self.server.listen(sock, tls.server_context(self.listen))

    def _note(self, kind: str, fields: dict[str, Any]) -> None:
        self.notes.append((kind, {name: value for name, value in fields.items() if name != "port"}))

    def judged(self) -> Judged:
        """A site as it is made anew when the configuration is read again."""
        policy = RequestPolicy(self.listen)
        return Judged(self.listen, self.config.limits, policy, policy, {b"/s/mcp": Endpoint("s", self.route, "/s/mcp")})

    def reload(self) -> None:
        """Judge by new rules, which say the same; `Worker._replace` does it in this order."""

        def now() -> None:
            self.gate = self.new_gate()
            self.route.renew(self.entry, self.gate)
            self.server.site = self.judged()

        self.thread.call(now)

    def open(self, *headers: str) -> Caller:
        """A new connection; `headers` come with each of its calls."""
        sock = socket.socket(socket.AF_UNIX if self.over == "unix" else socket.AF_INET)
        sock.connect(self.address)
        if self.over == "tls":
            context = ssl.create_default_context(cafile=self.listen.tls_certificate)
            sock = context.wrap_socket(sock, server_hostname="localhost")
        principal = ("X-Callgate-Principal: alice",) if self.over == "unix" else ()
        made = Caller(sock, (*principal, *headers))
        self.callers.append(made)
        return made

    def ready(self, *sessions: str) -> Caller:
        """A connection on which calls of both eras are known: the next ones take the quick way."""
        made = self.open()
        for name in sessions or ("1",):
            assert made.ask(post(initialize(name), *made.headers)).headers["mcp-session-id"] == f"s-{name}"
            for _ in range(3):
                made.ask(made.legacy(1, f"s-{name}"))
        for _ in range(3):
            made.ask(made.modern(1))
        return made

    @property
    def taken(self) -> int:
        """Calls that took the quick way."""
        return self.route.taken if isinstance(self.route, Counted) else 0

    def reading(self, caller: Caller) -> Connection:
        """The gate's end of a connection. Those of unix sockets have no names: there may be one only."""
        name = caller.socket.getsockname()
        for one in tuple(self.server.connections):
            if self.over == "unix" or one.transport.get_extra_info("peername")[:2] == name[:2]:
                return one
        raise AssertionError("this connection is closed")

    def state(self) -> dict[str, Any]:
        def now() -> dict[str, Any]:
            route = self.route
            table = route.sessions._sessions
            return {
                "relays": len(route._relays),
                "free": {principal: len(channels) for principal, channels in route.free.items()},
                "sessions": [(key, one.busy, list(one.channel.pending)) for key, one in sorted(table.items())],
                "idle": len(route.pool._idle),
                "all": len(route.pool._all),
            }

        found: dict[str, Any] = self.thread.call(now)
        return found

    def over_now(self) -> dict[str, Any]:
        """What came of the story, but for what differs between any two runs. Ends the site."""
        heard = [re.sub(rb"date: [^\r]*\r\n", b"", caller.heard.data) for caller in self.callers]
        state = self.state()
        for caller in self.callers:
            with suppress(OSError):
                caller.close()
        self.thread.run(self.route.close(0.2))
        self.thread.run(self.server.drain(0.2))
        self.journal.close()
        self.thread.close()
        self._left.close()
        asked = [
            (one.method, one.target, [field for field in one.headers if field[0] != "host"], one.body)
            for one in self.upstream.requests
        ]
        return {
            "heard": heard,
            "asked": asked,
            "connections": self.upstream.connections,
            "notes": self.notes,
            "state": state,
            "evidence": evidence(self.place),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()


EVERYTHING = ("heard", "asked", "connections", "notes", "state", "evidence")


def tell(
    place: Path,
    story: Callable[[Site], object],
    *,
    upstream: Callable[[], Upstream] | None = None,
    compared: tuple[str, ...] = EVERYTHING,
    **options: Any,
) -> Any:
    """The story each way, and what came of it, which is the same as far as it is `compared`.

    `upstream` makes the server; other options are for Site.
    """
    ends = []
    for way in WAYS:
        directory = place / way
        directory.mkdir()
        with Site(way, directory, upstream=upstream() if upstream is not None else None, **options) as site:
            story(site)
            ends.append((way, site.over_now()))
    for way, end in ends[1:]:
        for what in compared:
            assert end[what] == ends[0][1][what], (way, what)
    return ends[0][1]


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for what comes at once: no sleep, but room for the gate's thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.0001)


class Held:
    """A server whose answers wait until the test gives them."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, Peer]] = []

    def __call__(self, request: Request, peer: Peer) -> None:
        if request.method == "POST" and request.json().get("method") == "tools/call" and request.json()["id"] != 1:
            self.asked.append((request, peer))
        else:
            plainly(request, peer)

    def wait(self, count: int) -> list[tuple[Request, Peer]]:
        """The calls that wait, once there are so many."""
        until(lambda: len(self.asked) >= count)
        return self.asked
