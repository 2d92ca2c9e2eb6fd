"""The route to one Streamable HTTP server.

What is POSTed is decided and goes on, see `posts`.
GET opens the handshake era's server stream, DELETE ends a session; a modern server answers both with
405, and that passes. Channels: one per handshake-era session; one per exchange in the modern era and
for servers without sessions, whose rare requests of their own find their answers by id and principal.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from callgate.config import ServerConfig
from callgate.errors import AuditError
from callgate.protocol.headers import VERSION_HEADER
from callgate.transport.http.client import Origin, Pool
from callgate.transport.http.exchange import Exchange, Headers
from callgate.transport.http.free_channels import FreeChannels
from callgate.transport.http.notices import Notices
from callgate.transport.http.own_answers import respond_error
from callgate.transport.http.own_head import OwnHead, configured_headers
from callgate.transport.http.posts import Posts
from callgate.transport.http.quick import QuickCall
from callgate.transport.http.relay import Relay
from callgate.transport.http.request_plan import SESSION_HEADER, RequestPlan
from callgate.transport.http.sessions import Session, SessionTable, session_label
from callgate.transport.http.waiting import until
from callgate.transport.tool_schemas import CallerSchemas

if TYPE_CHECKING:
    from callgate.gate.channel import Channel
    from callgate.gate.engine import Gate
    from callgate.transport.http.connection import Connection
    from callgate.transport.http.known_request import KnownRequest


class HttpRoute:
    """See the module. Implements `exchange.Route`; raises ConfigError for a URL or header that cannot be used."""

    def __init__(self, config: ServerConfig, gate: Gate) -> None:
        self.config = config
        self.gate = gate
        self.limits = gate.config.limits
        self.sessions = SessionTable(config.sessions)
        self.pool = Pool(Origin(config.url))
        self.notices = Notices(self)
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time()
        self._relays: set[Relay | QuickCall] = set()
        self.free = FreeChannels()
        self.schemas = CallerSchemas()
        self.deadline = self.now + config.request_timeout_s
        self.own = OwnHead(self.pool.origin, configured_headers(config))
        self._post = Posts(self).handle
        self._ticker = self._loop.call_later(1.0, self._tick)
        self._troubles = 0

    def renew_headers(self, headers: Headers) -> None:
        """Send these, the gate's own, with every request from now on."""
        self.own = OwnHead(self.pool.origin, headers)

    # -- Route -----------------------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> None:
        memo = exchange.memo
        if memo is None:
            plan = self.own.plan(exchange.method, exchange.headers)
        else:
            known: RequestPlan | None = memo.get(self)
            if known is None or known.start is not self.own.start[exchange.method]:  # or with headers of before
                known = memo[self] = self.own.plan(exchange.method, exchange.headers)
            plan = known
        principal = exchange.principal
        session_id = plan.session_id
        session: Session | None = None
        if session_id is not None:
            found = self.sessions.find(session_id, principal, self.now)
            if found is True:
                respond_error(exchange, 404, "session-unknown", "no such session; initialize again")
                return
            if found is False:
                channel = self.channel(principal, session_label(session_id))
            else:
                session = found
                channel = session.channel
        elif not plan.handshake and (free := self.free.get(principal)):
            channel = free.pop()
        else:
            channel = self.channel(principal)
        if exchange.method == b"POST":
            self._post(exchange, plan, channel, session)
        else:
            self._other(exchange, plan, channel, session)

    def quick_call(self, client: Connection, known: KnownRequest, data: bytes) -> QuickCall | None:
        """Decide a call the native way and send it, where everything about it is plain; None: nothing was done."""
        plan: RequestPlan | None = known.memo.get(self)
        if plan is None or plan.start is not self.own.start[b"POST"]:
            return None
        session_id = plan.session_id
        session: Session | None = None
        if session_id is not None:
            session = self.sessions.peek(session_id, known.principal)
            if session is None or not plan.handshake:
                return None
            channel = session.channel
        else:
            free = self.free.get(known.principal)
            if not free or plan.handshake or self.schemas:
                return None
            channel = free[-1]
        native = channel.express
        connection = self.pool.take() if native is not None else None
        if connection is None:
            return None
        decided = None
        try:
            decided = native.request(channel, data, known.before, known.after, plan.lines, *plan.mirrored)  # type: ignore[union-attr]
        finally:
            if decided is None:
                self.pool.give_back(connection)
        if decided is None:
            return None
        if session is not None:
            self.sessions.used(session_id, session, self.now)  # type: ignore[arg-type]  # a session has an id
            session.busy += 1
        else:
            free.pop()  # type: ignore[union-attr]  # without a session it comes from there
        if not channel.revision:
            channel.revision = plan.revision
        request_id, sent = decided
        call = QuickCall(self, client, known, channel, session, request_id, sent, connection)
        self._relays.add(call)
        connection.quick = call
        connection.transport.write(sent)  # type: ignore[union-attr]  # `take` gives none without
        return call

    async def close(self, grace_s: float) -> None:
        for relay in tuple(self._relays):
            if relay.endless:
                relay.end("the gate is shutting down; connect again")
        await until(lambda: not self._relays, grace_s)
        for relay in tuple(self._relays):
            relay.end("the gate is shutting down")
        self._ticker.cancel()
        self.notices.close()
        self.pool.close()
        self.sessions.clear()

    def renew(self, config: ServerConfig, gate: Gate) -> None:
        """Judge later requests by another gate. Sessions go on; what they wait for is kept."""
        self.config = config
        self.gate = gate
        self.limits = gate.config.limits
        self.free.clear()
        self.sessions.limit = config.sessions
        for session in self.sessions.sessions():
            old = session.channel
            new = self.channel(session.principal, old.conversation.session)
            new.take_over(old)
            session.channel = new

    def channel(self, principal: str, session: str = "") -> Channel:
        """A new one."""
        return self.gate.channel(server=self.config.name, principal=principal, session=session, transport="http")

    def _other(self, exchange: Exchange, plan: RequestPlan, channel: Channel, session: Session | None) -> None:
        """GET opens or resumes a stream, DELETE ends a session."""
        resumes = exchange.header(b"last-event-id") if exchange.method == b"GET" else None
        if resumes is not None and session is None:
            channel = self.sessions.resumed(exchange.principal, resumes) or channel
        relay = Relay(self, exchange, channel, ())
        relay.endless = exchange.method == b"GET"
        if exchange.method == b"DELETE" and plan.session_id is not None and session is not None:
            self.sessions.remove(plan.session_id)
            session = None
        if resumes is not None:
            channel.replaying = relay.resumes = True
            if session is not None:
                session.replays += 1
        self.send(relay, plan, b"", session, repeatable=True)

    def send(self, relay: Relay, plan: RequestPlan, body: bytes, session: Session | None, repeatable: bool) -> None:
        """Send what was decided on to the server."""
        if session is not None:
            relay.session = session
            session.busy += 1
        self._relays.add(relay)
        if relay.exchange.method == b"POST":
            head = b"%b\r\ncontent-length: %d\r\n\r\n" % (plan.lines, len(body))
        else:
            head = plan.lines + b"\r\n\r\n"
        relay.request = self.pool.send(relay, head, body, repeatable=repeatable, whole=relay.whole)

    # -- what relays ask of their route ----------------------------------------------------------

    def left(self, relay: Relay) -> None:
        """An exchange is over."""
        try:
            self._relays.remove(relay)
        except KeyError:
            return
        session = relay.session
        if session is not None:
            session.busy -= 1
            if relay.resumes:
                session.replays -= 1
                session.channel.replaying = session.replays > 0

    def quick_left(self, call: QuickCall) -> None:
        """A call is over that had a plain answer."""
        self._relays.discard(call)
        if call.session is not None:
            call.session.busy -= 1
        elif call.gate is self.gate:
            self.free.add(call.known.principal, call.channel)

    def grown(self, call: QuickCall, relay: Relay) -> None:
        """`relay` stands in for `call` from now on."""
        self._relays.discard(call)
        self._relays.add(relay)

    def learn(self, principal: str, body: bytes) -> None:
        """Take note of an answer to `tools/list`, as its caller gets it."""
        self.schemas.learn(principal, body, self.gate.codec)

    def forget(self, exchange: Exchange) -> None:
        """The server does not know this session any more."""
        session_id = exchange.header(SESSION_HEADER)
        if session_id is not None:
            self.sessions.remove(session_id)

    def trouble(self, what: str) -> None:
        """Put a failure of the server on record, ten a second at most."""
        self._troubles += 1
        if self._troubles <= 10:
            try:
                self.gate.journal.note("upstream-failed", {"server": self.config.name, "what": what})
            except AuditError:
                pass  # the journal counts it as lost; whoever waits is told all the same

    def post_back(self, exchange: Exchange, message: bytes) -> None:
        """Send a message of the gate's own to the server: why its request was refused."""
        session = [field for field in exchange.headers if field[0] in (SESSION_HEADER, VERSION_HEADER)]
        self.notices.add(self.own.start[b"POST"], session, message)

    def _tick(self) -> None:
        self.now = now = self._loop.time()
        self.deadline = now + self.config.request_timeout_s
        self._troubles = 0
        for relay in tuple(self._relays):
            if relay.deadline < now:
                relay.timed_out()
        self.notices.sweep(now)
        self.sessions.expire(now)
        self._ticker = self._loop.call_later(min(1.0, self.config.request_timeout_s / 4), self._tick)
