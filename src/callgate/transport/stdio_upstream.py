"""HTTP towards clients, one message at a time towards the server: the route of stdio and HTTP+SSE servers.

Handshake era: each `initialize` starts a process of its own and gets an `Mcp-Session-Id` (144 random bits,
bound to the principal). Modern era (2026-07-28): no sessions; the requests of one principal share a process.
Eras are not bridged: a server that knows only the handshake answers a modern request with its own error,
which is relayed. The body decides the era; headers are only checked against it. Clients of 2024-11-05 find HTTP+SSE
at `…/sse` and `…/messages`.

A start is never waited for here: requests that need it are answered when it is over. Its client may go away before, and
the gateway may end; then it is given up, and what was begun is taken back in the background.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial

from callgate.config import ServerConfig
from callgate.errors import CallgateError, LaunchError, ProtocolError
from callgate.gate import answers
from callgate.gate.channel import Channel
from callgate.gate.engine import Gate
from callgate.gate.outcome import Outcome
from callgate.protocol.headers import VERSION_HEADER, check_request_headers
from callgate.protocol.message import Direction, Kind, Message
from callgate.protocol.revisions import HANDSHAKE_VERSIONS, MODERN_VERSIONS, modern_version
from callgate.transport.aside import Aside
from callgate.transport.bridge import Connect, Upstream
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.http.fields import JSON
from callgate.transport.http.own_head import configured_headers
from callgate.transport.http.sessions import session_label
from callgate.transport.http.waiting import until
from callgate.transport.launcher import Launcher
from callgate.transport.process import ProcessEvents
from callgate.transport.session import Session
from callgate.transport.shared_process import SharedProcess
from callgate.transport.sse_client import SseConnector
from callgate.transport.sse_legacy import SseFace
from callgate.transport.starts import Begin, Done, Start, handed

SESSION_HEADER = b"mcp-session-id"
TICK_S = 1.0
_MODERN = frozenset(version.encode() for version in MODERN_VERSIONS)
_KNOWN = _MODERN | frozenset(version.encode() for version in HANDSHAKE_VERSIONS)


class StdioRoute:
    """One configured stdio server, or one with `transport = "sse"`.

    At most `sessions` processes at once, both eras together; the first starts with the first request. Raises
    ConfigError for headers or a URL that cannot be used.
    """

    serves_sse = True

    def __init__(self, server: ServerConfig, gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._gate = gate
        self._loop = loop
        self._headers = configured_headers(server)
        self._aside = Aside(loop)
        self._starts: set[Start] = set()
        self._opening: set[Start] = set()
        """Those of them that are for a session."""
        self._begin_one = self._beginner(server, gate)
        self._sessions: dict[bytes, Session] = {}
        self._shared: dict[str, SharedProcess] = {}
        self._retired: list[SharedProcess] = []
        self._upstreams: set[Upstream] = set()
        self._sse = self._sse_face()
        self._closing = False
        self._ticker: asyncio.TimerHandle | None = None

    # -- requests --------------------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> None:
        """Answer one HTTP request."""
        self._tick_later()
        if self._closing:
            self._problem(exchange, 503, "closing", "the gateway is being stopped")
        elif exchange.path.endswith(("/sse", "/messages")):
            self._sse_request(exchange)
        elif exchange.method == b"POST":
            self._post(exchange)
        elif exchange.method in (b"GET", b"DELETE"):
            self._session_request(exchange)
        else:
            exchange.refuse(405, "http-method", [(b"allow", b"GET, POST, DELETE")], b"")

    def _post(self, exchange: Exchange) -> None:
        if not _accepts(exchange, b"application/json") or not _accepts(exchange, b"text/event-stream"):
            self._problem(exchange, 406, "http-accept", "Accept must allow application/json and text/event-stream")
            return
        session = self._session(exchange)
        channel = session.link.channel if session is not None else self._channel(exchange)
        decoded = channel.decode_client(exchange.body)
        if isinstance(decoded, Outcome):
            exchange.respond(decoded.status, [JSON] if decoded.reply else [], decoded.reply or b"")
            return
        if isinstance(decoded, Message):
            if modern_version(decoded.body) is not None:
                self._modern(exchange, decoded, channel if session is None else self._channel(exchange))
                return
            error = check_request_headers(exchange.headers, decoded)
            if error is not None:
                self._refuse(exchange, channel, error, decoded)
                return
        self._handshake(exchange, decoded, session, channel)

    def _handshake(
        self, exchange: Exchange, decoded: Message | list[Message], session: Session | None, channel: Channel
    ) -> None:
        version = exchange.header(VERSION_HEADER)
        first = decoded if isinstance(decoded, Message) else None
        initialize = first is not None and first.method == "initialize" and first.kind is Kind.REQUEST
        if version in _MODERN and first is not None and not initialize:
            error = ProtocolError(
                "meta-missing", "params._meta lacks io.modelcontextprotocol/protocolVersion", rpc_code=-32602
            )
            self._refuse(exchange, channel, error, first)
        elif version is not None and version not in _KNOWN:
            error = ProtocolError("http-version", "the revision in MCP-Protocol-Version is not known here")
            self._refuse(exchange, channel, error, first)
        elif session is not None:
            session.post(exchange, decoded)
        elif exchange.header(SESSION_HEADER) is not None:
            self._problem(exchange, 404, "session-unknown", "no such session: initialize again")
        elif initialize and first is not None:
            self._initialize(exchange, first)
        elif first is None:
            channel.client_batch(decoded)  # type: ignore[arg-type]  # refused: nothing is negotiated; on record
            self._problem(exchange, 400, "jsonrpc-batch", "a batch needs a session of revision 2025-03-26")
        else:
            error = ProtocolError("session-missing", "no session", next_step="send initialize first")
            self._refuse(exchange, channel, error, first)

    def _initialize(self, exchange: Exchange, message: Message) -> None:
        """A session of its own, and its server."""
        if self._full(exchange):
            return
        session_id = secrets.token_urlsafe(18).encode()
        gate = self._gate

        def ready(result: Connect | CallgateError) -> None:
            try:
                connect = handed(result)
            except CallgateError as error:
                self._problem(exchange, 502, "server-start", f"the server could not be started: {error.what}", message)
                return
            channel = self._channel(exchange, session_label(session_id))
            limit_s = self._server.request_timeout_s
            session = Session(session_id, channel, connect, limit_s, self._loop.time, self._session_over)
            self._sessions[session_id] = session
            # In another gate than the one that decoded it, patterns have other numbers.
            session.post(exchange, message if gate is self._gate else self._gate.codec.encode(message.body))

        start = self._begin_session(ready)
        exchange.on_disconnect = lambda: start.cancel("the client went away before it was started")

    def _full(self, exchange: Exchange) -> bool:
        """Whether no further process may be started; the client is then told."""
        self._sse.sweep()
        shared = sum(one.running for one in (*self._shared.values(), *self._retired))
        self._opening = {start for start in self._opening if not start.over}
        if len(self._sessions) + len(self._sse.sessions) + len(self._opening) + shared < self._server.sessions:
            return False
        text = f"{self._server.sessions} sessions are open; end one or raise sessions"
        self._problem(exchange, 503, "sessions", text, retry=True)
        return True

    def _modern(self, exchange: Exchange, message: Message, channel: Channel) -> None:
        shared = self._shared.get(exchange.principal)
        if shared is None or not shared.running:
            if self._full(exchange):
                return
            if shared is None:
                shared = self._shared[exchange.principal] = SharedProcess(
                    self._channel(exchange), self._begin, self._server.request_timeout_s, self._loop.time
                )
        shared.post(exchange, message, channel)

    def _sse_request(self, exchange: Exchange) -> None:
        """HTTP+SSE of 2024-11-05: `GET …/sse` and `POST …/messages`."""
        wanted = b"GET" if exchange.path.endswith("/sse") else b"POST"
        if exchange.method != wanted:
            exchange.refuse(405, "http-method", [(b"allow", wanted)], b"")
        elif wanted == b"POST":
            self._sse.post(exchange)
        elif not _accepts(exchange, b"text/event-stream"):
            self._problem(exchange, 406, "http-accept", "Accept must allow text/event-stream")
        elif not self._full(exchange):
            self._sse.open(exchange)

    def _session_request(self, exchange: Exchange) -> None:
        """GET and DELETE: the handshake era only."""
        given = exchange.header(SESSION_HEADER)
        session = self._session(exchange)
        if given is None:
            if exchange.header(VERSION_HEADER) in _MODERN:
                exchange.respond(405, [(b"allow", b"POST")], b"")
            else:
                self._problem(exchange, 400, "session-missing", "no Mcp-Session-Id: send initialize first")
        elif session is None:
            self._problem(exchange, 404, "session-unknown", "no such session: initialize again")
        elif exchange.method == b"DELETE":
            session.end("the client ended it")
            exchange.respond(204, [], b"")
        elif not _accepts(exchange, b"text/event-stream"):
            self._problem(exchange, 406, "http-accept", "Accept must allow text/event-stream")
        else:
            session.listen(exchange)

    # -- helpers ---------------------------------------------------------------------------------

    def _session(self, exchange: Exchange) -> Session | None:
        """The caller's session. That of another principal is as good as none."""
        session = self._sessions.get(exchange.header(SESSION_HEADER) or b"")
        return session if session is not None and session.principal == exchange.principal else None

    def _channel(self, exchange: Exchange, session: str = "") -> Channel:
        return self._gate.channel(
            server=self._server.name, principal=exchange.principal, session=session, transport="http"
        )

    @staticmethod
    def _refuse(exchange: Exchange, channel: Channel, error: ProtocolError, message: Message | None) -> None:
        outcome = channel.refuse(error, Direction.CLIENT, message.id if message is not None else None)
        exchange.respond(outcome.status, [JSON], outcome.reply or b"")

    @staticmethod
    def _problem(
        exchange: Exchange, status: int, rule: str, text: str, message: Message | None = None, *, retry: bool = False
    ) -> None:
        headers = [JSON, (b"retry-after", b"1")] if retry else [JSON]
        request_id = message.id if message is not None else None
        body = answers.error(request_id, answers.UNAVAILABLE, f"callgate: {text}", rule)
        exchange.refuse(status, rule, headers, body)

    def _sse_face(self) -> SseFace:
        limit_s = self._server.request_timeout_s
        return SseFace(self._channel, self._begin_session, limit_s, self._loop.time)

    def _beginner(self, server: ServerConfig, gate: Gate) -> Begin:
        if server.command:
            return Launcher(server, gate, self._loop, self._aside).begin
        limit = gate.config.limits.response_bytes
        return SseConnector(self._loop, server.url, lambda: self._headers, limit, gate.journal.note, server.name).begin

    # -- lifecycle -------------------------------------------------------------------------------

    def _begin(self, done: Done) -> Start:
        """Start an upstream, which is then ours to stop."""

        def ready(result: Connect | CallgateError) -> None:
            done(result if isinstance(result, CallgateError) else partial(self._own, result))

        self._starts = {start for start in self._starts if not start.over}
        start = self._begin_one(ready)
        self._starts.add(start)
        return start

    def _begin_session(self, done: Done) -> Start:
        """The same for a session, which counts from now on."""
        start = self._begin(done)
        self._opening.add(start)
        return start

    def _own(self, connect: Connect, events: ProcessEvents) -> Upstream:
        upstream = connect(events)
        self._upstreams.add(upstream)
        upstream.closed.add_done_callback(lambda _: self._upstreams.discard(upstream))
        return upstream

    def _session_over(self, session: Session) -> None:
        self._sessions.pop(session.id, None)

    def _tick_later(self) -> None:
        if self._ticker is None:
            self._ticker = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        now = self._loop.time()
        for session in list(self._sessions.values()):
            session.tick(now)
        for sse in self._sse.sessions.values():
            sse.tick(now)
        self._sse.sweep()
        for principal, shared in list(self._shared.items()):
            shared.tick(now)
            if not shared.running and shared.forgettable(now):
                del self._shared[principal]
        for shared in self._retired:
            shared.tick(now)
            if not shared.busy:
                shared.stop(2.0)
        self._retired = [shared for shared in self._retired if shared.running]
        if (self._sessions or self._shared or self._sse.sessions or self._retired) and not self._closing:
            self._tick_later()

    def renew_headers(self, headers: Headers) -> None:
        """Towards a server with `transport = "sse"`: these from the next message on."""
        self._headers = headers

    def renew(self, server: ServerConfig, gate: Gate) -> None:
        """Judge later requests by another gate and start later processes by another command.

        Sessions and requests in flight go on, and keep the process they have.
        """
        old, self._server = self._server, server
        self._gate = gate
        self._begin_one = self._beginner(server, gate)
        if old != server:
            self._retired += self._shared.values()
            self._shared.clear()
        links = [one.link for one in self._sessions.values()] + [one.link for one in self._sse.sessions.values()]
        for link in links:
            link.renew(gate, server.name)
        for principal, shared in self._shared.items():
            shared.renew(gate.channel(server=server.name, principal=principal, transport="http"))
        sessions, self._sse = self._sse.sessions, self._sse_face()
        self._sse.sessions = sessions

    async def close(self, grace_s: float) -> None:
        """Let requests in flight finish within `grace_s`, then stop every server and wait for its end."""
        self._closing = True
        if self._ticker is not None:
            self._ticker.cancel()
        for start in tuple(self._starts):
            if not start.over:
                start.fail(LaunchError("the gateway is being stopped"))
        await until(lambda: not self._busy(), grace_s)
        for session in list(self._sessions.values()):
            session.end("the gateway was stopped", grace_s / 8)
        for sse in self._sse.sessions.values():
            sse.end("the gateway was stopped", grace_s / 8)
        for shared in (*self._shared.values(), *self._retired):
            shared.stop(grace_s / 8)
        for upstream in self._upstreams:
            upstream.stop(grace_s / 8)
        for upstream in self._upstreams:
            self._aside.until(upstream.closed)
        await self._aside.idle(grace_s / 2 + 3.0)

    def _busy(self) -> bool:
        return (
            any(one.busy for one in self._sessions.values())
            or any(one.busy for one in self._sse.sessions.values())
            or any(one.busy for one in (*self._shared.values(), *self._retired))
        )


def _accepts(exchange: Exchange, wanted: bytes) -> bool:
    """Whether Accept allows `wanted`; everything is allowed where the header is missing. Weights are not read."""
    values = [value for name, value in exchange.headers if name == b"accept"]
    if not values:
        return True
    ranges = {part.partition(b";")[0].strip().lower() for value in values for part in value.split(b",")}
    return not ranges.isdisjoint((wanted, b"*/*", wanted.partition(b"/")[0] + b"/*"))
