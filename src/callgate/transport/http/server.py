"""The listening side: who is let in, which route a path has, and the clock of all connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate

from callgate.config import Limits, ListenConfig
from callgate.gate import answers
from callgate.transport.http.connection import Connection
from callgate.transport.http.exchange import Exchange, Route
from callgate.transport.http.fields import JSON, NO_STORE
from callgate.transport.http.known_heads import KNOWN
from callgate.transport.http.known_request import KnownRequest
from callgate.transport.http.refusals import Note, Refusals
from callgate.transport.http.request_head import RequestHead
from callgate.transport.http.request_policy import Refusal, RequestPolicy
from callgate.transport.http.request_reader import NOT_FOUND
from callgate.transport.http.waiting import place_of, until

METHODS = frozenset((b"GET", b"POST", b"DELETE"))
BACKLOG = 1024
PRINCIPAL_HEADER = b"x-callgate-principal"
"""Between workers only: who was authenticated by the worker that took the connection."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and what answers it. `methods` is what may be asked of it."""

    name: str
    route: Route
    path: str
    methods: frozenset[bytes] = METHODS
    anonymous: bool = False
    """Answered without a token: health."""


@dataclass(frozen=True, slots=True)
class Site:
    """Everything a request is judged by; replaced as a whole when the configuration is read again."""

    listen: ListenConfig
    limits: Limits
    policy: RequestPolicy
    open_policy: RequestPolicy
    """The same without tokens, for anonymous endpoints."""
    endpoints: Mapping[bytes, Endpoint]
    known: dict[bytes, KnownRequest] = field(default_factory=dict)
    """Heads admitted before, by this very policy."""

    def private(self) -> Site:
        """The same for the socket between workers: whom a worker vouches for there is nobody on the public side."""
        return replace(self, known={})

    def remember(self, template: bytes, at: int, request: KnownRequest) -> None:
        """Keep an admitted head; its Content-Length stood at `at`."""
        request.before, request.after = template[:at], template[at:]
        if len(self.known) >= KNOWN:
            self.known.clear()
        self.known[template] = request


class HttpServer:
    """Connections of one worker, their admission and their timeouts.

    `trusted` is for the private socket between workers: its peer has checked the request and names the
    principal. The sweep runs once a second, or four times within the shortest timeout.
    """

    def __init__(self, site: Site, note: Note, *, trusted: bool = False) -> None:
        self.site = site
        self.connections: set[Connection] = set()
        self.draining = False
        self.trusted = trusted
        self.now = time.monotonic()
        self.idle_deadline = self.now + site.listen.idle_timeout_s
        self.date_line = b""
        self._note = note
        self._refusals = Refusals(note)
        self._listeners: list[asyncio.AbstractServer] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._second = 0

    # -- lifecycle -------------------------------------------------------------------------------

    async def listen(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept on a bound socket."""
        loop = asyncio.get_running_loop()
        limits = self.site.listen
        if sock.family == socket.AF_UNIX:
            listener: asyncio.AbstractServer = await loop.create_unix_server(
                lambda: Connection(self), sock=sock, backlog=BACKLOG
            )
        else:
            listener = await loop.create_server(
                lambda: Connection(self), sock=sock, backlog=BACKLOG, ssl=tls,
                ssl_handshake_timeout=limits.header_timeout_s if tls else None,
                ssl_shutdown_timeout=limits.idle_timeout_s if tls else None,
            )  # fmt: skip
        self._listeners.append(listener)
        if self._sweeper is None:
            self._sweep()

    async def drain(self, grace_s: float, last_words_s: float = 0.0) -> bool:
        """Stop accepting, let requests in progress finish for up to `grace_s`. True when all did.

        Others have `last_words_s` more, in which they are told that they were cut.
        """
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in tuple(self.connections):
            connection.drain()
        complete = await until(self._idle, grace_s)
        if not complete:
            await until(self._idle, last_words_s)
        for connection in tuple(self.connections):
            connection.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._refusals.summarise(float("inf"))
        return complete

    def _idle(self) -> bool:
        return not any(connection.busy for connection in self.connections)

    def _sweep(self) -> None:
        self.now = now = time.monotonic()
        self.idle_deadline = now + self.site.listen.idle_timeout_s
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.date_line = b"date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
            self._refusals.summarise(now)
        for connection in tuple(self.connections):
            connection.sweep(now)
        listen = self.site.listen
        pause = min(1.0, listen.header_timeout_s / 4, listen.idle_timeout_s / 4)
        self._sweeper = asyncio.get_running_loop().call_later(pause, self._sweep)

    def admit(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """Whether there is room for one more connection."""
        if self.draining or len(self.connections) >= self.site.listen.connections:
            return False
        self.connections.add(connection)
        # Event streams are many small writes; asyncio sets this only for sockets it made itself.
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True

    # -- requests --------------------------------------------------------------------------------

    def admission(self, head: RequestHead, endpoint: Endpoint | None) -> Refusal | str:
        """The principal, or why not. Policy comes before the path: who may not ask learns nothing of what is here."""
        if head.repeated:
            return Refusal(400, "http-duplicate-header", f"the header {head.repeated} appears more than once")
        site = self.site
        if self.trusted:
            principal: str | Refusal = _vouched(head)
        elif endpoint is not None and endpoint.anonymous:
            principal = site.open_policy.check(head)
        else:
            principal = site.policy.check(head)
        if type(principal) is Refusal:
            return principal
        if endpoint is None:
            return NOT_FOUND
        if head.method not in endpoint.methods:
            allowed = b", ".join(sorted(endpoint.methods))
            return Refusal(405, "http-method", "this method is not served here", ((b"allow", allowed),))
        return principal

    def refused(self, refusal: Refusal, exchange: Exchange, transport: asyncio.BaseTransport) -> None:
        """Put a refusal on record, or count it where there are too many of its kind."""
        self._refusals.add(refusal.status, refusal.rule, exchange, transport.get_extra_info("peername"), self.now)

    def error_body(self, refusal: Refusal) -> bytes:
        """A JSON-RPC error without an id, as MCP asks for refusals made before the message was read."""
        return answers.error(None, refusal.code, refusal.message, refusal.rule)

    def defect(self, error: BaseException) -> None:
        """Put a defect of our own on record."""
        self._note("internal-error", {"error": place_of(error)})

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """A route raised: answer 500 if nothing was sent yet, else cut the stream."""
        self._note("internal-error", {"route": exchange.route, "error": place_of(error)})
        body = answers.error(None, answers.UNAVAILABLE, "callgate failed; the message did not pass", "internal")
        if exchange.streaming:
            exchange.abort()
        else:
            exchange.respond(500, [JSON, NO_STORE], body)


def _vouched(head: RequestHead) -> str:
    """The principal another worker has verified; its header goes no further."""
    named = [value for name, value in head.kept if name == PRINCIPAL_HEADER]
    head.kept = [field for field in head.kept if field[0] != PRINCIPAL_HEADER]
    return named[0].decode("latin-1") if named else ""
